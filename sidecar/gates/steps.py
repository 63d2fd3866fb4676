"""Long computing in steps, so that whoever drives it may turn to something else in between.

Steps are a generator: it stops before each piece of work that may take long, saying how many such pieces are left,
and returns the result in the end. What is computed does not depend on who drives it, nor when.
"""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

_Result = TypeVar("_Result")

Steps: TypeAlias = Generator[int, None, _Result]
"""Yields how many pieces of work are left, at least 1; returns the result."""


def finish(steps: Steps[_Result]) -> _Result:
    """Take all the steps, here and now."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result
