"""JSON read with suspicion: every value's type, size and field names are said by the one who reads it.

Refused besides malformed text: duplicate and unknown fields, missing ones, numbers that are no integers,
text with control characters. Rational numbers are text, ``"p"`` or ``"p/q"``. All failures are
:class:`BundleError` with the section's reason and the place, such as ``gates[0].domain[2].lower[4]``.
"""

import dataclasses
import enum
import json
import re
import reprlib
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NoReturn, TypeVar

from sidecar.bundle.limits import MAX_JSON_ITEMS, MAX_NAME_CHARACTERS, MAX_RATIONAL_DIGITS, MAX_TEXT_CHARACTERS
from sidecar.errors import BundleError, Reason

_Choice = TypeVar("_Choice", bound=enum.StrEnum)

_RATIONAL: Final = re.compile(rf"-?[0-9]{{1,{MAX_RATIONAL_DIGITS}}}(/[1-9][0-9]{{0,{MAX_RATIONAL_DIGITS - 1}}})?")


@dataclasses.dataclass(frozen=True)
class Node:
    """One JSON value, not yet trusted, and where it stands."""

    value: object
    where: str
    reason: Reason

    def refuse(self, expected: str) -> NoReturn:
        """Raises BundleError: got, expected, where, what to do."""
        got = reprlib.repr(self.value)
        raise BundleError(self.reason, f"{self.where}: got {got}, expected {expected}; compile the bundle again")

    def fields(self, *names: str) -> tuple["Node", ...]:
        """The fields of an object that has exactly these."""
        if not isinstance(self.value, dict):
            self.refuse(f"an object with the fields {', '.join(names)}")
        if set(self.value) != set(names):
            Node(sorted(self.value), self.where, self.reason).refuse(f"exactly the fields {', '.join(names)}")
        return tuple(Node(self.value[name], f"{self.where}.{name}", self.reason) for name in names)

    def has(self, name: str) -> bool:
        """Whether an object has a field that it need not have."""
        return isinstance(self.value, dict) and name in self.value

    def pairs(self, at_most: int) -> list[tuple[str, "Node"]]:
        """Names and values of an object used as a map."""
        if not isinstance(self.value, dict) or len(self.value) > at_most:
            self.refuse(f"an object with at most {at_most} fields")
        return [
            (Node(name, self.where, self.reason).name(), Node(value, f"{self.where}.{name}", self.reason))
            for name, value in self.value.items()
        ]

    def elements(self, at_most: int = MAX_JSON_ITEMS) -> list["Node"]:
        """The elements of a list."""
        if not isinstance(self.value, list) or len(self.value) > at_most:
            self.refuse(f"a list of at most {at_most} elements")
        return [Node(value, f"{self.where}[{index}]", self.reason) for index, value in enumerate(self.value)]

    def text(self) -> str:
        """Text, perhaps empty, perhaps of several lines."""
        return self._text(MAX_TEXT_CHARACTERS, control_characters="\n\t")

    def name(self) -> str:
        """A name: text of one line, not empty. Names reach logs and terminals."""
        name = self._text(MAX_NAME_CHARACTERS, control_characters="")
        return name or self.refuse("a name")

    def _text(self, at_most: int, control_characters: str) -> str:
        if not isinstance(self.value, str) or len(self.value) > at_most:
            self.refuse(f"text of at most {at_most} characters")
        if any(unicodedata.category(c) in ("Cc", "Cs") and c not in control_characters for c in self.value):
            self.refuse("text without control characters or lone surrogates")
        return self.value

    def integer(self, at_least: int, at_most: int) -> int:
        """An integer in the range, ends included."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not at_least <= self.value <= at_most:
            self.refuse(f"an integer from {at_least} to {at_most}")
        return self.value

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.refuse("true or false")
        return self.value

    def choice(self, kind: type[_Choice]) -> _Choice:
        """A member of the enum, by its value."""
        members = {member.value: member for member in kind}
        if not isinstance(self.value, str) or self.value not in members:
            self.refuse(f"one of {', '.join(members)}")
        return members[self.value]

    def rational(self) -> Fraction:
        """An exact number."""
        if not isinstance(self.value, str) or not _RATIONAL.fullmatch(self.value):
            self.refuse(f"a rational 'p' or 'p/q' with at most {MAX_RATIONAL_DIGITS} digits each")
        return Fraction(self.value)

    def optional(self) -> "Node | None":
        """None for null."""
        return None if self.value is None else self


def parse(payload: bytes, where: str, reason: Reason, limit_bytes: int) -> Node:
    """The payload's JSON value. Raises BundleError as the module says."""
    source = Node(f"{len(payload)} bytes", where, reason)
    if len(payload) > limit_bytes:
        source.refuse(f"at most {limit_bytes} bytes")
    # An upper bound on the number of values, known before any of them is made.
    if sum(map(payload.count, (b",", b"[", b"{"))) > MAX_JSON_ITEMS:
        source.refuse(f"at most {MAX_JSON_ITEMS} values")

    def refuse_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            Node([name for name, _ in pairs], where, reason).refuse("every field once in its object")
        return fields

    def refuse_number(number: str) -> NoReturn:
        Node(number, where, reason).refuse("integers, and rationals as text")

    try:
        value = json.loads(
            payload.decode("utf-8", errors="strict"),
            object_pairs_hook=refuse_duplicates,
            parse_float=refuse_number,
            parse_constant=refuse_number,
        )
    except (ValueError, RecursionError) as error:
        source.refuse(f"JSON ({error})")
    return Node(value, where, reason)


def rational_text(number: Fraction, where: str, reason: Reason) -> str:
    """The text that :meth:`Node.rational` reads. Raises BundleError beyond the limit of digits."""
    if max(abs(number.numerator), number.denominator) >= 10**MAX_RATIONAL_DIGITS:
        raise BundleError(
            reason,
            f"{where}: a number near {_order_of_magnitude(number)} has more than {MAX_RATIONAL_DIGITS} digits as an "
            "exact fraction; state it with fewer digits or a smaller exponent",
        )
    return str(number)


def _order_of_magnitude(number: Fraction) -> str:
    bits = number.numerator.bit_length() - number.denominator.bit_length()
    return f"{'-' if number < 0 else ''}2^{bits}"
