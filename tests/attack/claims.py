"""What is attacked: the silent and the violating leaves of a search, as boxes of values on the wire."""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.search import SearchLimits, partition
from sidecar.compiler.stated import in_box
from sidecar.gates.effective import effective_region, wire_bounds
from sidecar.gates.exact import requirement_holds
from sidecar.gates.values import Region, Requirement
from sidecar.network.values import Model
from sidecar.numerics import largest_not_above, next_up
from sidecar.properties.values import Property


@dataclasses.dataclass(frozen=True, eq=False)
class Leaves:
    """Boxes, (leaf, input) each, whose bounds are values on the wire; boxes without such a value are left out."""

    lower: np.ndarray
    upper: np.ndarray

    def __len__(self) -> int:
        return len(self.lower)


@dataclasses.dataclass(frozen=True, eq=False)
class Claim:
    """What was claimed of one region.

    Args:
        name: for tables.
        model: of which it is claimed.
        region: effective.
        required: on the whole of its box.
        arithmetic: in which too.
        tree: the map.
    """

    name: str
    model: Model
    region: Region
    required: Requirement
    arithmetic: Arithmetic
    tree: CoverageTree

    def share(self, label: Label) -> float:
        """Of the region's box that is labelled so, by volume."""
        return float(self.tree.volume[label])

    def leaves(self, label: Label) -> Leaves:
        """All leaves with this label."""
        lower, upper = wire_bounds(self.region.box, self.model.signature.input_datatypes())
        boxes = [box for box in self._walk(lower, upper, label) if (box[0] <= box[1]).all()]
        size = self.model.signature.input_size
        return Leaves(*(np.array([box[side] for box in boxes]).reshape(-1, size) for side in (0, 1)))

    def _walk(self, lower: np.ndarray, upper: np.ndarray, label: Label) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        datatypes = self.model.signature.input_datatypes()
        waiting = [(0, lower, upper)]
        while waiting:
            node, lower, upper = waiting.pop()
            feature = int(self.tree.feature[node])
            if feature == LEAF:
                if self.tree.label[node] == label:
                    yield lower, upper
                continue
            # Rows up to the threshold go left: the right half begins at the next value on the wire.
            last = largest_not_above(Fraction(float(self.tree.threshold[node])), datatypes[feature])
            left_upper, right_lower = upper.copy(), lower.copy()
            left_upper[feature] = min(upper[feature], last)
            right_lower[feature] = max(lower[feature], next_up(last, datatypes[feature]))
            waiting.append((int(self.tree.left[node]), lower, left_upper))
            waiting.append((int(self.tree.right[node]), right_lower, upper))

    def label_of(self, row: np.ndarray) -> Label:
        """Of the leaf in which a row of the region lies."""
        node = 0
        while (feature := int(self.tree.feature[node])) != LEAF:
            side = self.tree.left if row[feature] <= self.tree.threshold[node] else self.tree.right
            node = int(side[node])
        return Label(int(self.tree.label[node]))

    def holds(self, row: np.ndarray, answer: np.ndarray) -> bool:
        """Exactly; an answer that is not finite does not."""
        return bool(np.isfinite(answer).all()) and requirement_holds(self.required, row, answer)


def claimed(
    name: str, model: Model, stated: Property, limits: SearchLimits, arithmetic: Arithmetic = Arithmetic.IEEE32
) -> list[Claim]:
    """What the search claims, a claim for each region of the property."""
    claims = []
    for number, part in enumerate(stated.domain):
        region = effective_region(part, model.signature.input_datatypes())
        required = in_box(stated.requirement, region)
        found = partition(model.network, region.box, required, arithmetic, limits, lambda _: None)
        several = f"[{number}]" if len(stated.domain) > 1 else ""
        claims.append(Claim(f"{name}{several}", model, region, required, arithmetic, found.tree))
    return claims
