"""The boxes that wait to be bounded, largest first or smallest first.

Largest first makes an interrupted search settle as much volume as it can. What waits is at most one box per smallest
volume worth splitting; where that is more than memory should hold, the smallest go first until it is not.
"""

import dataclasses
from collections import defaultdict
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.bounds import Phases

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]
Flags: TypeAlias = npt.NDArray[np.bool_]

MOST_WAITING: Final = 400_000
"""Boxes, of a few hundred bytes each where networks are small; else fewer."""

_MOST_BYTES: Final = 2**28
"""What waits may take; a byte for each hidden neuron of each box is most of it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of a search.

    Args:
        lower: float64 (box, input).
        upper: float64 (box, input).
        node: the node of the split tree that each one is.
        size: float64 (box,); its share of the root box's volume if nothing had been carved off.
        phases: what is proved of the hidden neurons.
    """

    lower: Floats
    upper: Floats
    node: Indices
    size: Floats
    phases: Phases

    def __len__(self) -> int:
        return len(self.node)

    def at(self, index: Indices | Flags | slice) -> "Boxes":
        """Some of the boxes."""
        return Boxes(self.lower[index], self.upper[index], self.node[index], self.size[index], self.phases[index])


def join(parts: list[Boxes]) -> Boxes:
    """All boxes of several parts, in order; at least one part."""
    return Boxes(
        lower=np.concatenate([part.lower for part in parts]),
        upper=np.concatenate([part.upper for part in parts]),
        node=np.concatenate([part.node for part in parts]),
        size=np.concatenate([part.size for part in parts]),
        phases=np.concatenate([part.phases for part in parts]),
    )


class Frontier:
    """Waiting boxes, in stacks by the binary order of magnitude of their size; largest first unless told otherwise."""

    def __init__(self, boxes: Boxes, *, smallest_first: bool = False) -> None:
        self._smallest_first = smallest_first
        self._most = min(MOST_WAITING, _MOST_BYTES // (boxes.phases.shape[1] + 16 * boxes.lower.shape[1] + 16))
        self._stacks: dict[int, list[Boxes]] = defaultdict(list)
        self._count = 0
        self.push(boxes)

    def __len__(self) -> int:
        return self._count

    @property
    def parts(self) -> list[Boxes]:
        """What waits, in parts: pushed one after the other onto an empty frontier they give this one again."""
        return [part for level in sorted(self._stacks) for part in self._stacks[level]]

    def push(self, boxes: Boxes) -> None:
        """Add boxes."""
        magnitude = -np.frexp(boxes.size)[1]
        for level in np.unique(magnitude):
            chosen = boxes.at(magnitude == level)
            self._stacks[int(level)].append(chosen)
        self._count += len(boxes)

    def take(self, count: int) -> Boxes:
        """Remove and return up to ``count`` boxes, at least one: the latest of the order that comes first."""
        taken: list[Boxes] = []
        while count > 0 and self._count > 0:
            level = (max if self._smallest_first or self._count > self._most else min)(self._stacks)
            part = self._stacks[level].pop()
            if len(part) > count:
                self._stacks[level].append(part.at(slice(len(part) - count)))
                part = part.at(slice(len(part) - count, None))
            if not self._stacks[level]:
                del self._stacks[level]
            taken.append(part)
            count -= len(part)
            self._count -= len(part)
        return join(taken)
