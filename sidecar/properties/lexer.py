"""An expression's words: numbers, names and signs, each with its place. No grammar lives here."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from sidecar.properties.rationals import DECIMAL
from sidecar.properties.source import Excerpt, shown

MAX_EXPRESSION_CHARACTERS: Final = 10_000
"""Length of one expression; what people read stays far below."""

KEYWORDS: Final = frozenset({"and", "or", "not", "in", "best", "score"})
"""Words that no feature or class can be called."""

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_SPACE = re.compile(r"\s+")
_TOKEN = re.compile(rf"(?P<number>{DECIMAL})|(?P<name>{_NAME})|(?P<sign><=|>=|==|!=|[-<>+*/(){{}},])")

_INSTEAD: Final = {
    "=": "==",
    "&": "and",
    "|": "or",
    "!": "not",
    "~": "not",
    "^": "a product",
    "%": "a fraction such as 0.5",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "−": "-",
    "·": "*",
    "×": "*",
}
"""Signs that people write, and what stands for them here."""


class Token(NamedTuple):
    """One word. ``kind`` is ``number``, ``name`` or ``end``, else the keyword or sign itself."""

    kind: str
    text: str
    place: int


def is_name(text: str) -> bool:
    """Whether a feature or class can be called so."""
    return re.fullmatch(_NAME, text) is not None and text not in KEYWORDS


def tokens(excerpt: Excerpt) -> Iterator[Token]:
    """The words of an expression, closed by one of kind ``end``.

    Raises:
        InputError: a sign that does not exist here, a number glued to a word, or too long a text.
    """
    text = excerpt.value
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise excerpt.error(0, f"an expression of {len(text)} characters; at most {MAX_EXPRESSION_CHARACTERS} are read")
    index = _after_space(text, 0)
    last = 0
    while index < len(text):
        match = _TOKEN.match(text, index)
        if match is None:
            raise excerpt.error(index, _unknown(text[index]))
        yield _token(excerpt, match)
        last = match.end()
        index = _after_space(text, last)
    yield Token("end", "the end", last)


def _after_space(text: str, index: int) -> int:
    match = _SPACE.match(text, index)
    return index if match is None else match.end()


def _unknown(sign: str) -> str:
    instead = _INSTEAD.get(sign)
    return f"{shown(sign)} has no meaning here" + (f"; write {instead}" if instead else "")


def _token(excerpt: Excerpt, match: re.Match[str]) -> Token:
    text, end = match.group(), match.end()
    if match["number"] is not None:
        if re.match(r"[A-Za-z0-9_.]", excerpt.value[end : end + 1]):
            raise excerpt.error(
                end, f"a number runs into {shown(excerpt.value[end])}; write numbers without units, as in 0.5 or 3e2"
            )
        return Token("number", text, match.start())
    if match["name"] is not None and text not in KEYWORDS:
        return Token("name", text, match.start())
    return Token(text, text, match.start())
