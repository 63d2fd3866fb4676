"""Random networks, and what they answer: in real arithmetic, and in each that can be declared, however it is summed."""

import itertools
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Arithmetic
from sidecar.network.values import Affine, Layer, Network, Relu, forward
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.attack.arithmetics import simulated

Floats: TypeAlias = npt.NDArray[np.float64]


def random_network(rng: np.random.Generator, datatype: Datatype, spread: float) -> Network:
    """A random network; magnitudes vary over ``10 ** +-spread``, weights are sparse, runs of affine layers occur."""
    precision = np.float32 if datatype is Datatype.FP32 else np.float64
    sizes = [int(rng.integers(1, 4)), *(int(size) for size in rng.integers(1, 7, rng.integers(0, 4))), 3]
    layers: list[Layer] = []
    if rng.random() < 0.5:
        layers.append(Affine(np.eye(sizes[0]), _numbers(rng, (sizes[0],), precision, 0.0), 2))
    for inner, outer in itertools.pairwise(sizes):
        weight = _numbers(rng, (outer, inner), precision, spread) * (rng.random((outer, inner)) < 0.8)
        layers.append(Affine(weight, np.zeros(outer), inner))
        layers.append(Affine(np.eye(outer), _numbers(rng, (outer,), precision, spread), 2))
        layers.append(Relu())
    if rng.random() < 0.8:
        layers.pop()
    signature = ModelSignature((TensorSpec("x", datatype, (sizes[0],)),), (TensorSpec("y", datatype, (3,)),), None)
    return Network(signature, tuple(layers))


def _numbers(rng: np.random.Generator, shape: tuple[int, ...], precision: type, spread: float) -> Floats:
    scale = 10.0 ** rng.uniform(-spread, spread, shape)
    return (rng.standard_normal(shape) * scale).astype(precision).astype(np.float64)


def datatype_of(arithmetic: Arithmetic) -> Datatype:
    """Of the tensors that an arithmetic is about."""
    return Datatype.FP64 if arithmetic is Arithmetic.IEEE64 else Datatype.FP32


def served(network: Network, points: Floats, arithmetic: Arithmetic, rng: np.random.Generator, count: int) -> Floats:
    """Several evaluations of each row in an arithmetic, (evaluation, row, output)."""
    match arithmetic:
        case Arithmetic.IEEE64:
            return forward(network, points)[None]
        case Arithmetic.IEEE32:
            return np.stack([served32(network, points, rng) for _ in range(count)])
        case _:
            answer = simulated(network, arithmetic, int(rng.integers(2**32)))
            return np.stack([answer(points) for _ in range(count)])


@np.errstate(over="ignore", invalid="ignore")
def served32(network: Network, points: Floats, rng: np.random.Generator) -> Floats:
    """One evaluation in float32 of each row: sums are built term by term in random order, the bias anywhere, sometimes
    with a fused multiply-add; neighbouring affine layers are sometimes fused by adding the later bias into the sum."""
    hidden = points.astype(np.float32)
    layers = list(network.layers)
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, Relu):
            hidden = np.maximum(hidden, np.float32(0))
            continue
        weight, bias = layer.weight, layer.bias
        following = layers[0] if layers else None
        if isinstance(following, Affine) and np.array_equal(following.weight, np.eye(len(bias))) and not bias.any():
            bias = following.bias
            layers.pop(0)
        hidden = np.stack([_affine32(weight, bias, row, rng) for row in hidden])
    return hidden.astype(np.float64)


def _affine32(
    weight: Floats, bias: Floats, row: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    order, fused = rng.permutation(len(row) + 1), bool(rng.integers(2))
    total = np.zeros(len(bias), dtype=np.float32)
    for index in order:
        if index == len(row):
            total = total + bias.astype(np.float32)
        elif fused:  # the product of two float32 values is exact in float64
            total = (weight[:, index] * float(row[index]) + total.astype(np.float64)).astype(np.float32)
        else:
            total = total + weight[:, index].astype(np.float32) * row[index]
    return total


def exact_answer(network: Network, point: Floats) -> list[Fraction]:
    """In real arithmetic."""
    hidden = [Fraction(value) for value in point]
    for layer in network.layers:
        if isinstance(layer, Relu):
            hidden = [max(value, Fraction(0)) for value in hidden]
        else:
            hidden = [
                sum((Fraction(w) * h for w, h in zip(row, hidden, strict=True)), Fraction(bias))
                for row, bias in zip(layer.weight, layer.bias, strict=True)
            ]
    return hidden
