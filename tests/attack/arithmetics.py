"""The arithmetics that a served network may compute in, simulated; what a bundle declares must be covered.

IEEE float32: each sum term by term, in an order of its own, with and without fused multiply-add. The coarse ones keep
fewer bits of what is multiplied (TF32, and sums in float32), or of everything (float16, bfloat16).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from sidecar.bundle.values import Arithmetic
from sidecar.network.values import Affine, Network, Relu

Rounding = Callable[[np.ndarray], np.ndarray]


def _kept_bits(dropped: int) -> Rounding:
    def rounded(values: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        half = np.uint32((1 << (dropped - 1)) - 1) + ((bits >> np.uint32(dropped)) & np.uint32(1))
        return ((bits + half) & np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))).view(np.float32)

    return rounded


def _same(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _float16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float16).astype(np.float32)


SIMULATED: Final[Mapping[str, tuple[Rounding, Rounding]]] = MappingProxyType(
    {
        Arithmetic.IEEE32.value: (_same, _same),
        "tf32": (_kept_bits(13), _same),
        "bf16": (_kept_bits(16), _kept_bits(16)),
        "ieee16": (_float16, _float16),
    }
)
"""By name: the rounding of what is multiplied, and that of every sum's result."""


def simulated(network: Network, arithmetic: str, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Answers rows (row, input) in that arithmetic; orders of summation change from call to call."""
    operands, results = SIMULATED[arithmetic]
    rng = np.random.default_rng(seed)

    def answer(rows: np.ndarray) -> np.ndarray:
        hidden = operands(rows)
        for layer in network.layers:
            match layer:
                case Affine(weight, bias):
                    hidden = results(_summed(operands(weight), results(bias), operands(hidden), rng))
                case Relu():
                    hidden = np.maximum(hidden, np.float32(0))
        return hidden.astype(np.float64)

    return answer


def _summed(weight: np.ndarray, bias: np.ndarray, hidden: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``hidden @ weight.T + bias`` in float32, one term after the other."""
    fused = bool(rng.integers(2))
    total = np.zeros((len(hidden), len(weight)), np.float32)
    for index in rng.permutation(hidden.shape[1] + 1):
        if index == hidden.shape[1]:
            total += bias
        elif fused:  # a product of two float32 values is exact in float64
            exact = weight[:, index].astype(np.float64) * hidden[:, index, None]
            total = (exact + total).astype(np.float32)
        else:
            total += weight[:, index] * hidden[:, index, None]
    return total
