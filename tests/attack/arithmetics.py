"""The arithmetics that a served network may compute in, simulated; what a bundle declares must be covered.

Sums are built in an order of their own: term by term with or without fused multiply-add, or as tensor cores do it, in
blocks whose addends are aligned to the largest and cut off. The coarse arithmetics round operands and results too, TF32
its operands in either of the ways that hardware has.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from sidecar.bundle.values import Arithmetic
from sidecar.network.values import Affine, Network, Relu

Rounding = Callable[[np.ndarray], np.ndarray]

_MOST_IN_BLOCK: Final = 16


def _kept_bits(dropped: int, cut: bool = False) -> Rounding:
    def rounded(values: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        half = np.uint32((1 << (dropped - 1)) - 1) + ((bits >> np.uint32(dropped)) & np.uint32(1))
        return ((bits + half * (not cut)) & np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))).view(np.float32)

    return rounded


def _float32(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _float16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float16).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Simulated:
    """An arithmetic.

    Args:
        operands: roundings of what is multiplied, one of which a layer uses.
        step: rounding of each product and sum.
        result: rounding of what a layer adds up, without its bias and with it.
        blocks: whether tensor cores may add up.
    """

    operands: tuple[Rounding, ...]
    step: Rounding
    result: Rounding
    blocks: bool


_BF16: Final = _kept_bits(16)

SIMULATED: Final[Mapping[Arithmetic, Simulated]] = MappingProxyType(
    {
        Arithmetic.IEEE32: Simulated((_float32,), _float32, _float32, blocks=False),
        Arithmetic.TF32: Simulated((_kept_bits(13), _kept_bits(13, cut=True)), _float32, _float32, blocks=True),
        Arithmetic.BF16: Simulated((_BF16,), _float32, _BF16, blocks=True),
        Arithmetic.FP16: Simulated((_float16,), _float32, _float16, blocks=True),
        Arithmetic.IEEE16: Simulated((_float16,), _float16, _float16, blocks=False),
    }
)
"""Those about FP32 tensors."""


def simulated(network: Network, arithmetic: Arithmetic, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Answers rows (row, input) in that arithmetic, float64 (row, output); how it adds up changes from call to call."""
    form = SIMULATED[arithmetic]
    rng = np.random.default_rng(seed)

    def answer(rows: np.ndarray) -> np.ndarray:
        hidden = _float32(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            for layer in network.layers:
                match layer:
                    case Affine(weight, bias):
                        hidden = _layer(form, weight, bias, hidden, rng)
                    case Relu():
                        hidden = np.maximum(hidden, np.float32(0))
        return hidden.astype(np.float64)

    return answer


def _layer(
    form: Simulated, weight: np.ndarray, bias: np.ndarray, hidden: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """``hidden @ weight.T + bias``; the bias is one of the terms, or is added to the rounded sum of products."""
    operands = form.operands[rng.integers(len(form.operands))]
    left, right = operands(weight), operands(hidden)
    apart, bias = bool(rng.integers(2)), form.result(bias)
    terms = [(left[:, index], right[:, index, None]) for index in range(hidden.shape[1])]
    if not apart:
        terms.append((bias, np.ones((len(hidden), 1), np.float32)))
    terms = [terms[index] for index in rng.permutation(len(terms))]
    total = np.zeros((len(hidden), len(weight)), np.float32)
    total = _in_blocks(terms, total, rng) if form.blocks and rng.integers(2) else _one_by_one(form, terms, total, rng)
    return form.result(form.step(form.result(total) + bias)) if apart else form.result(total)


def _one_by_one(
    form: Simulated, terms: list[tuple[np.ndarray, np.ndarray]], total: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    fused = bool(rng.integers(2))
    for left, right in terms:
        if fused:  # a product of two float32 values is exact in float64
            total = form.step(left.astype(np.float64) * right + total)
        else:
            total = form.step(form.step(left * right) + total)
    return total


def _in_blocks(terms: list[tuple[np.ndarray, np.ndarray]], total: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Products are exact; addends and each block's sum lose what lies below the largest one's 24 bits."""
    size = int(rng.integers(1, _MOST_IN_BLOCK + 1))
    for start in range(0, len(terms), size):
        products = [left.astype(np.float64) * right for left, right in terms[start : start + size]]
        addends = np.stack([total.astype(np.float64), *products])
        total = _cut(_cut(addends, np.abs(addends).max(axis=0)).sum(axis=0)).astype(np.float32)
    return total


def _cut(values: np.ndarray, largest: np.ndarray | None = None) -> np.ndarray:
    """Values without what lies below the 24 bits of the largest one, or of each itself."""
    _, exponent = np.frexp(np.abs(values) if largest is None else largest)
    unit = np.ldexp(1.0, exponent - 24)
    return np.trunc(values / unit) * unit
