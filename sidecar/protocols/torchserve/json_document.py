"""A JSON document as a tree whose numbers keep their text, and the same document with some numbers replaced.

What two readers could read differently is refused: a field twice in an object, bytes that are no UTF-8. Replacing
moves bytes only: spaces, order, escapes and all other numbers survive as they are.

Source: RFC 8259.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sidecar.protocols.open_inference.contents import Defect, TensorDefect

MAX_VALUES: Final = 1 << 20
"""In one document. A value of two bytes takes a hundred and more once it is parsed. TorchServe takes 6.5 MB."""

_TOKEN: Final = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"'
    r"|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|-?Infinity)"
)
"""A string, or in the group a number. What matches neither has no digits in it."""


class Number(NamedTuple):
    """A number as it stands in the document; ``place`` counts all of its numbers from its start."""

    text: str
    place: int


@dataclasses.dataclass
class _Reader:
    """Makes numbers out of the parser's calls, which come in the document's order."""

    count: "itertools.count[int]" = dataclasses.field(default_factory=itertools.count)

    def number(self, text: str) -> Number:
        return Number(text, next(self.count))


def read_document(payload: bytes) -> object:
    """The tree: dictionaries, lists, text, booleans, None and :class:`Number`.

    Raises:
        TensorDefect: the payload is no JSON, has too many values, is nested too deep, or is ambiguous.
    """
    # An upper bound on the number of values, known before any of them is made.
    if sum(map(payload.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise TensorDefect(Defect.CONTENTS, f"a JSON document of more than {MAX_VALUES} values: send smaller batches")
    read = _Reader().number
    try:
        return json.loads(
            payload.decode("utf-8", errors="strict"),
            object_pairs_hook=_fields,
            parse_float=read,
            parse_int=read,
            parse_constant=read,
        )
    except (ValueError, RecursionError) as error:
        raise TensorDefect(Defect.CONTENTS, f"no JSON document that can be read: {error}") from None


def _fields(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice in an object, and readers differ in which one counts")
    return fields


def replace_numbers(payload: bytes, texts: Mapping[int, str]) -> bytes:
    """A document that was read, with the numbers of these indices replaced."""
    document, pieces, end = payload.decode("utf-8"), [], 0
    numbers = (token for token in _TOKEN.finditer(document) if token[1] is not None)
    for index, token in enumerate(numbers):
        if index in texts:
            pieces += [document[end : token.start()], texts[index]]
            end = token.end()
    return "".join([*pieces, document[end:]]).encode("utf-8")
