"""A safety property as people state it: what must hold where, what to do otherwise, and why anybody cares.

The readers (YAML, VNN-LIB) make these values; the compiler turns each into a gate. Nothing here reads
files, and nothing here knows a network.
"""

import dataclasses
import enum
from fractions import Fraction

from sidecar.gates.values import Action, Mode, Norm, Region, Requirement


class Severity(enum.StrEnum):
    """How bad a violation is, in the operator's alerting terms."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclasses.dataclass(frozen=True)
class Traceability:
    """The fields that travel from the property file into bundle, audit record and report."""

    property_id: str
    title: str = ""
    hazard: str = ""
    rationale: str = ""
    owner: str = ""
    severity: Severity = Severity.CRITICAL


@dataclasses.dataclass(frozen=True)
class Property:
    """One property.

    Args:
        trace: identity and traceability.
        domain: where it applies, as stated (wire units, exact; not yet widened to the wire datatype).
        requirement: what must hold there.
        action, margin, norm, fallback: see :class:`sidecar.gates.values.Gate`.
        mode: the mode a deployment starts with.
    """

    trace: Traceability
    domain: tuple[Region, ...]
    requirement: Requirement
    action: Action
    margin: Fraction
    norm: Norm
    mode: Mode
    fallback: tuple[Fraction, ...] | None


@dataclasses.dataclass(frozen=True)
class PropertyFile:
    """What one property file says.

    Args:
        origin: the file's name, without its folder.
        source: the file's bytes as read (decompressed).
        model_name: the served model that the file is about, where it says so.
        batch_axis: 0, or None where the file does not speak of a batch.
        properties: at least one; ids distinct.
    """

    origin: str
    source: bytes
    model_name: str | None
    batch_axis: int | None
    properties: tuple[Property, ...]
