"""Where in a JSON document something stands: ``/instances``, ``/rows/*/speed``, or ``/`` for the whole of it.

A path's steps are names of fields and, in arrays, indices from 0. The step ``*`` stands for every element of an
array in turn: its elements are the rows. Fields whose names are empty or contain a slash cannot be named.
"""

import re
from typing import Final, TypeAlias

from sidecar.protocols.open_inference.contents import Defect, TensorDefect

EVERY: Final = "*"
"""The step for rows."""

Path: TypeAlias = tuple[str, ...]

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,3}")


def parse_path(text: str) -> Path:
    """The steps of a path.

    Raises:
        ValueError: it is none; the message says why.
    """
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is no place in a JSON document: write it from the top, as in /instances")
    steps = tuple(text[1:].split("/")) if text != "/" else ()
    if "" in steps:
        raise ValueError(f"{text!r} has an empty step; write a field's name between slashes")
    if steps.count(EVERY) > 1:
        raise ValueError(f"{text!r} has {EVERY} twice; rows are the elements of one array")
    return steps


def show_path(path: Path) -> str:
    """The text of a path."""
    return "/" + "/".join(path)


def is_index(step: str) -> bool:
    """Whether a step can be an index of an array."""
    return _INDEX.fullmatch(step) is not None


def follow(value: object, path: Path) -> object:
    """What stands at a path without ``*``.

    Raises:
        TensorDefect: nothing does.
    """
    for number, step in enumerate(path):
        if type(value) is dict and step in value:
            value = value[step]
        elif type(value) is list and is_index(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            raise TensorDefect(Defect.MISSING, f"there is nothing at {show_path(path[: number + 1])} of the document")
    return value
