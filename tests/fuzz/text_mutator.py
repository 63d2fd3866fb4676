"""Changes to texts with words and brackets: property files and settings."""

import random
import re
from collections.abc import Sequence

_TOKEN = re.compile(rb"\s+|[A-Za-z0-9_.+-]+|.", re.DOTALL)
_KINDS = [
    re.compile(rb"[+-]?[0-9.][0-9.eE+-]*"),
    re.compile(rb"[A-Za-z0-9_.+-]+"),
    re.compile(rb"\s+"),
    re.compile(rb".*", re.DOTALL),
]
_ODD = [
    b"\0",
    b"\r",
    b"\t",
    b"\x85",
    b"\xff",
    b"\xed\xa0\x80",
    "\u2028".encode(),
    "\ufeff".encode(),
    "\u0663".encode(),
    b"\n",
]


def mutated(data: bytes, words: Sequence[bytes], donors: Sequence[bytes], rng: random.Random) -> bytes:
    """The text after one to four changes."""
    tokens = _TOKEN.findall(data)
    if tokens and rng.random() < 0.5:
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            at = rng.randrange(len(tokens))
            tokens[at] = _alike(tokens[at], [*tokens, *words], rng)
        return b"".join(tokens)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        at = rng.randint(0, len(tokens))
        end = min(len(tokens), at + rng.choice((1, 1, 2, 5, 15)))
        match rng.randrange(9):
            case 0 | 1:
                tokens[at : at + 1] = [rng.choice(words)]
            case 2:
                tokens[at:at] = [b" ", rng.choice(words), b" "]
            case 3:
                del tokens[at:end]
            case 4:
                tokens[at:at] = tokens[at:end]
            case 5:
                tokens[at:end] = [b"(", *tokens[at:end], b")"]
            case 6:
                donor = _TOKEN.findall(rng.choice(donors))
                start = rng.randint(0, len(donor))
                tokens[at:at] = donor[start : start + rng.choice((1, 3, 10, 40))]
            case 7:
                tokens[at:at] = [rng.choice(_ODD)]
            case 8:
                tokens[at:end] = tokens[at:end] * rng.choice((2, 10, 200))
    return b"".join(tokens)


def _alike(token: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Another token of its kind: a number for a number, a word for a word, a sign for a sign."""
    kind = next(kind for kind in _KINDS if kind.fullmatch(token))
    return rng.choice([other for other in others if kind.fullmatch(other)] or [token])


def expressions(text: bytes) -> list[tuple[int, int]]:
    """Where the bracketed expressions of a text lie, innermost first."""
    found, opened = [], []
    for match in re.finditer(rb"[()]", text):
        if match[0] == b"(":
            opened.append(match.start())
        elif opened:
            found.append((opened.pop(), match.end()))
    return found


def swapped(text: bytes, donor: bytes, rng: random.Random) -> bytes:
    """One bracketed expression put in another one's place: still well-formed."""
    here, there = expressions(text), expressions(donor)
    if not here or not there:
        return text
    (start, end), (first, last) = rng.choice(here), rng.choice(there)
    return text[:start] + donor[first:last] + text[end:]
