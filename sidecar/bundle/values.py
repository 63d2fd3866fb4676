"""What a gate bundle says, as values.

The bytes are :mod:`sidecar.bundle.codec`'s, trust is :mod:`sidecar.bundle.acceptance`'s.
"""

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import CoverageTree
from sidecar.gates.values import Gate, Mode
from sidecar.properties.values import Traceability
from sidecar.tensors import ModelSignature, Rows

FORMAT_VERSION = 1

WITHOUT_PROOF = (("proof", "none"),)
"""Among the options of a bundle about whose model nothing was to be proved: all its regions are open."""


class Arithmetic(enum.StrEnum):
    """The arithmetic of the served model that the proof's margins cover, besides real arithmetic.

    ``ieee..`` is that format of IEEE 754 for every product and sum. The others are what accelerators do: operands of
    products are rounded to the named format, sums are float32 (bits far below the largest addend may be cut off), and
    results are rounded to the named format too, but for ``tf32``. Whatever rounds less often, or to more bits, is
    covered too; so each of those about FP32 tensors covers ``ieee32``.
    """

    IEEE32 = "ieee32"
    IEEE64 = "ieee64"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    IEEE16 = "ieee16"

    @property
    def words(self) -> str:
        """For people, after "in"."""
        return _IN_WORDS[self]


_IN_WORDS: Final[Mapping[Arithmetic, str]] = MappingProxyType(
    {
        Arithmetic.IEEE32: "IEEE float32, in any order of summation",
        Arithmetic.IEEE64: "IEEE float64, in any order of summation",
        Arithmetic.TF32: "TF32 (operands of products) and float32, in any order of summation",
        Arithmetic.BF16: "bfloat16 with sums in float32, in any order of summation",
        Arithmetic.FP16: "float16 with sums in float32, in any order of summation",
        Arithmetic.IEEE16: "IEEE float16, in any order of summation",
    }
)


@dataclasses.dataclass(frozen=True)
class PropertyRecord:
    """A property's traceability and the mode it starts in; stands at its gate's position."""

    trace: Traceability
    mode: Mode


@dataclasses.dataclass(frozen=True)
class PropertySource:
    """A property file, kept word for word for the auditor."""

    origin: str
    content: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class SelfTestVectors:
    """Rows that our own code, and later the upstream, are tried on.

    Args:
        inputs: float64 (vector, input): wire-representable input rows.
        outputs: float64 (vector, output): what the verified model answers there, from onnxruntime.
        lower, upper: float64 (vector, output): between these lies the answer of whatever computes the verified model
            in real or in the declared arithmetic; infinite, both, where that is not known.
        corrected: float64 (vector, output): what all gates enforced must make of it; NaN in the whole row
            where the decision is to refuse.
        contained, fired: bool (vector, gate): each gate's verdict on the row.
    """

    inputs: Rows
    outputs: Rows
    lower: Rows
    upper: Rows
    corrected: Rows
    contained: npt.NDArray[np.bool_]
    fired: npt.NDArray[np.bool_]

    @property
    def certified(self) -> npt.NDArray[np.bool_]:
        """Whether it is known how the verified model answers, in at least one output; bool (vector,)."""
        return np.asarray(np.isfinite(self.lower).any(axis=1))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The readable head of a bundle. No clock, no host name: the same inputs give the same bytes.

    Args:
        name: the served model's name.
        revision: monotonic, >= 1; higher replaces lower.
        model_digest: SHA-256 of the verified ONNX file, lower-case hex.
        signature: the tensors that the gates judge.
        arithmetic: see :class:`Arithmetic`.
        properties: one record per gate, same order; ids distinct.
        compiler_version: of this package.
        options: the options that determined the result, by name, as strings; region count included.
        versions: of the served model, for which the bundle was made, ascending; none makes no distinction.
    """

    name: str
    revision: int
    model_digest: str
    signature: ModelSignature
    arithmetic: Arithmetic
    properties: tuple[PropertyRecord, ...]
    compiler_version: str
    options: tuple[tuple[str, str], ...]
    versions: tuple[str, ...] = ()

    @property
    def is_proved(self) -> bool:
        """Whether anything was to be proved about the model."""
        return not set(WITHOUT_PROOF) <= set(self.options)


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
    """Everything that the sidecar activates for one model.

    Args:
        manifest: see :class:`Manifest`.
        gates: one per property, same order as ``manifest.properties``.
        coverage: per gate, one tree per region of its domain, same order.
        vectors: see :class:`SelfTestVectors`.
        sources: the property files.
    """

    manifest: Manifest
    gates: tuple[Gate, ...]
    coverage: tuple[tuple[CoverageTree, ...], ...]
    vectors: SelfTestVectors
    sources: tuple[PropertySource, ...]
