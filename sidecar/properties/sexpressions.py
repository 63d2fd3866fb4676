"""S-expressions with places: the brackets and words that VNN-LIB is written in. No meaning lives here.

Reads one top-level expression at a time and without recursion; nesting is limited, so that code which
walks an expression may recurse.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from sidecar.properties.source import Source

MAX_DEPTH: Final = 64
"""Brackets inside one another; public files need four."""

_TOKEN = re.compile(r"[ \t\r\n]+|;[^\r\n]*|(?P<word>[()]|[^\s();]+|.)", re.DOTALL)


class Atom(NamedTuple):
    """A word or number, and where it stands."""

    text: str
    place: int


class Group(NamedTuple):
    """A bracketed list, and where it opens."""

    items: tuple["Node", ...]
    place: int


Node: TypeAlias = Atom | Group


def top_level(source: Source, token: re.Pattern[str] = _TOKEN) -> Iterator[Node]:
    """The file's expressions, one after the other.

    Args:
        source: the file.
        token: matches one word, as its group of that name, or what stands between words; something, anywhere.

    Raises:
        InputError: brackets that do not match, or nested deeper than ``MAX_DEPTH``.
    """
    stack: list[tuple[int, list[Node]]] = []
    for match in token.finditer(source.text):
        word, place = match["word"], match.start()
        if word is None:
            continue
        if word == "(":
            stack.append((place, []))
            if len(stack) > MAX_DEPTH:
                raise source.error(place, f"brackets nested deeper than {MAX_DEPTH}; flatten the condition")
            continue
        node: Node = Atom(word, place)
        if word == ")":
            if not stack:
                raise source.error(place, "')' without '('; remove it")
            opened, items = stack.pop()
            node = Group(tuple(items), opened)
        if stack:
            stack[-1][1].append(node)
        else:
            yield node
    if stack:
        raise source.error(stack[-1][0], "'(' is never closed; is the file cut short?")
