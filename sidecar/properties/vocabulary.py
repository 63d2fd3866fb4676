"""What a property file may speak about: features and scores, each with its place in the row and its units.

Property files speak *physical* units, gates judge *wire* values: ``wire = scale * physical + offset``, with
exact rationals. Substituting that map keeps the value of every inequality, so a literal's value, and with
it the margin, stays in physical units; only its coefficients change.
"""

import dataclasses
import enum
from fractions import Fraction
from typing import Final

from sidecar.properties.formulas import Linear
from sidecar.properties.rationals import bounded


@dataclasses.dataclass(frozen=True)
class WireMap:
    """``wire = scale * physical + offset``; the scale is not zero."""

    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    def to_wire(self, physical: Fraction) -> Fraction:
        """The wire value of a physical one."""
        return bounded(self.scale * physical + self.offset)

    def to_physical(self, wire: Fraction) -> Fraction:
        """The physical value of a wire one."""
        return (wire - self.offset) / self.scale

    def inverse(self) -> tuple[Fraction, Fraction]:
        """Factor and shift in ``physical = factor * wire + shift``."""
        return bounded(1 / self.scale), bounded(-self.offset / self.scale)


IDENTITY: Final = WireMap()


@dataclasses.dataclass(frozen=True)
class Range:
    """A closed interval of physical values."""

    lower: Fraction
    upper: Fraction


@dataclasses.dataclass(frozen=True)
class Feature:
    """One value of the input row.

    Args:
        name: how expressions and messages call it.
        position: in the row.
        wire: from physical units.
        unit: of the physical value, for messages; may be empty.
        range: bounds that hold where a property states none; None where the file declares none.
    """

    name: str
    position: int
    wire: WireMap = IDENTITY
    unit: str = ""
    range: Range | None = None

    def wire_range(self) -> tuple[Fraction, Fraction] | None:
        """The declared range in wire units, lower bound first even where the scale is negative."""
        if self.range is None:
            return None
        ends = self.wire.to_wire(self.range.lower), self.wire.to_wire(self.range.upper)
        return min(ends), max(ends)

    def form(self) -> Linear:
        """The physical value as a linear form over the wire's row."""
        factor, shift = self.wire.inverse()
        return Linear({}, {self.position: factor}, shift)


@dataclasses.dataclass(frozen=True)
class Score:
    """One value of the output row; see :class:`Feature`."""

    name: str
    position: int
    wire: WireMap = IDENTITY
    unit: str = ""

    def form(self) -> Linear:
        """The physical value as a linear form over the wire's row."""
        factor, shift = self.wire.inverse()
        return Linear({self.position: factor}, {}, shift)


class Best(enum.StrEnum):
    """Which score wins."""

    LARGEST = "largest"
    SMALLEST = "smallest"


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The classes that ``best`` compares, and how. Scores are compared in physical units."""

    best: Best
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """All names of a property file.

    Args:
        features: in the row's order, one for each position; names distinct.
        scores: by name.
        ranking: None where the file does not say which score wins.
    """

    features: tuple[Feature, ...]
    scores: dict[str, Score]
    ranking: Ranking | None

    def feature(self, name: str) -> Feature | None:
        """The feature of that name, if any."""
        return next((feature for feature in self.features if feature.name == name), None)
