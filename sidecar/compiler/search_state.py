"""Where searches stopped, as values and as a file, so that a later run goes on as if nothing had been between.

Whatever decides how a search goes on is in it: the tree, the boxes that wait and how they came, the attack's random
numbers and what it found. The file is the compiler's own note to itself, NumPy arrays without pickle; nothing rests on
it, for the checker proves what the searches say.
"""

import dataclasses
import io
import itertools
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.attack import AttackState
from sidecar.compiler.frontier import Boxes, join
from sidecar.compiler.split_tree import Nodes
from sidecar.errors import InputError

_FORMAT: Final = 1

_Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class SearchState:
    """Where one search stopped.

    Args:
        nodes: of its tree.
        waiting: the parts of its frontier.
        regions: boxes bounded.
        settled: shares that are silent, violating, open.
        undecided: whether anything is violating or open.
        attack: see :class:`AttackState`.
    """

    nodes: Nodes
    waiting: Sequence[Boxes]
    regions: int
    settled: Sequence[float]
    undecided: bool
    attack: AttackState


@dataclasses.dataclass(frozen=True, eq=False)
class Interrupted:
    """Where all searches of a compilation stopped.

    Args:
        key: tells what was compiled, and how; only the same goes on from here.
        searches: one state for each, in their order.
    """

    key: str
    searches: tuple[SearchState, ...]


def encode(interrupted: Interrupted) -> bytes:
    """The file's content."""
    arrays: _Arrays = {}
    told = [_put(arrays, f"{number}.", state) for number, state in enumerate(interrupted.searches)]
    head = {"format": _FORMAT, "key": interrupted.key, "searches": told}
    file = io.BytesIO()
    np.savez(file, head=np.array(json.dumps(head)), **arrays)  # type: ignore[arg-type]  # one of them could be allow_pickle
    return file.getvalue()


def _put(arrays: _Arrays, name: str, state: SearchState) -> Mapping[str, object]:
    arrays[f"{name}nodes"], arrays[f"{name}found"] = state.nodes, state.attack.found
    if state.waiting:
        waiting = join(list(state.waiting))
        arrays |= {f"{name}{field.name}": getattr(waiting, field.name) for field in dataclasses.fields(Boxes)}
    return {
        "parts": list(map(len, state.waiting)),
        "regions": state.regions,
        "settled": list(state.settled),
        "undecided": state.undecided,
        "rounds": state.attack.rounds,
        "generator": state.attack.generator,
    }


def read(path: Path) -> Interrupted:
    """What :func:`encode` wrote. Raises InputError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            head = json.loads(str(arrays["head"]))
            if head["format"] != _FORMAT:
                raise InputError(f"{path}: format {head['format']}, expected {_FORMAT}; {_ADVICE}")
            searches = [_taken(arrays, f"{number}.", told) for number, told in enumerate(head["searches"])]
            return Interrupted(head["key"], tuple(searches))
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not what a compile that was stopped leaves behind ({error}); {_ADVICE}") from error


_ADVICE: Final = "remove it to begin anew"


def _taken(arrays: Mapping[str, npt.NDArray[Any]], name: str, told: Mapping[str, Any]) -> SearchState:
    waiting: list[Boxes] = []
    if told["parts"]:
        boxes = Boxes(*(arrays[f"{name}{field.name}"] for field in dataclasses.fields(Boxes)))
        ends = np.cumsum([0, *told["parts"]]).tolist()
        waiting = [boxes.at(slice(*part)) for part in itertools.pairwise(ends)]
    attack = AttackState(arrays[f"{name}found"], told["rounds"], told["generator"])
    return SearchState(arrays[f"{name}nodes"], waiting, told["regions"], told["settled"], told["undecided"], attack)
