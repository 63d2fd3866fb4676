"""A network as a value: dense layers with exact weights, or a graph, and the function that they mean.

Weights are float64 holding exactly the numbers of the model file (float32 or float64 there), so the value
denotes one function over the reals; what float64 makes of a quotient or a root of such numbers has its relative error
counted among the layer's roundings. Layers stand in the order in which the model file computes them and
are not merged, but for a bias that is added apart (:mod:`sidecar.network.joined`): rounding bounds of the served
arithmetic speak about these very operations.
"""

import dataclasses
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.network.graph import Graph, graph_forward
from sidecar.tensors import ModelSignature, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """``h -> weight @ h + bias``; weight float64 (out, in), bias float64 (out,), all finite.

    Args:
        operations: the longest chain of roundings that one output suffers in the served arithmetic, i.e.
            an upper bound on the number of terms (products and bias) summed into it. An element-wise
            addition has 2 terms and no product.
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    operations: int

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != (self.weight.shape[0],):
            raise ValueError(f"weight {self.weight.shape} and bias {self.bias.shape} do not fit")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ValueError("weights and biases must be finite")


@dataclasses.dataclass(frozen=True)
class Relu:
    """``h -> max(h, 0)``, element-wise."""


Layer: TypeAlias = Affine | Relu


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A feed-forward network from an input row to an output row.

    Args:
        signature: tensors on the wire; ``input_size`` and ``output_size`` fit the layers.
        layers: at least one.
    """

    signature: ModelSignature
    layers: tuple[Layer, ...]


AnyNetwork: TypeAlias = Network | Graph


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network together with where it came from.

    Args:
        name: the file's stem, used as served name where nothing else names the model.
        digest: SHA-256 of the (decompressed) model file, lower-case hex.
        content: the (decompressed) model file, for replay in onnxruntime.
        network: what it computes; dense layers wherever it can be written so.
    """

    name: str
    digest: str
    content: bytes
    network: AnyNetwork

    @property
    def signature(self) -> ModelSignature:
        """Its tensors on the wire."""
        return self.network.signature


@dataclasses.dataclass(frozen=True, eq=False)
class OpaqueModel:
    """A model of which nothing is known but its tensors: it can be guarded, and nothing about it can be proved.

    Args:
        name, digest, content: see :class:`Model`.
        signature: its tensors on the wire.
    """

    name: str
    digest: str
    content: bytes
    signature: ModelSignature


AnyModel: TypeAlias = Model | OpaqueModel


def forward(network: AnyNetwork, inputs: Rows) -> Rows:
    """The network's outputs in float64 (a reference, not a bound). Rows in, rows out."""
    if isinstance(network, Graph):
        return graph_forward(network, inputs)
    hidden = inputs
    for layer in network.layers:
        hidden = hidden @ layer.weight.T + layer.bias if isinstance(layer, Affine) else np.maximum(hidden, 0.0)
    return hidden
