"""YAML as nodes with places: a strict subset, nothing constructed, every scalar kept as its text.

Texts rather than values, because ``0.1`` must mean one tenth and not the nearest binary number. Refused are
repeated and unknown keys, anchors and aliases, tags, and what is nested too deep or written at excessive
length.
"""

import dataclasses
import enum
import unicodedata
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final, TypeVar

import yaml

from sidecar.errors import InputError
from sidecar.properties.rationals import rational
from sidecar.properties.source import Excerpt, Source, shown, suggestion

MAX_DEPTH: Final = 12
"""Collections inside one another; a property file needs six."""

MAX_TEXT_CHARACTERS: Final = 1 << 16
"""Length of one title, rationale and so on."""

_Choice = TypeVar("_Choice", bound=enum.StrEnum)


class _Loader(yaml.SafeLoader):
    """PyYAML's composer, which refuses what it would share, and recursion beyond a limit."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refused("anchors and aliases are not read; write the value out", event)
        if event.tag is not None:
            raise _refused("tags are not read; remove it", event)
        if self.depth >= MAX_DEPTH:
            raise _refused(f"nested deeper than {MAX_DEPTH} levels; see the format's description", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refused(problem: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]


def compose(source: Source, expected: str = "inputs, outputs and properties") -> "Value":
    """The root of a YAML document; ``expected`` is what an empty one lacks.

    Raises:
        InputError: no YAML, not one document, or outside the subset.
    """
    try:
        node = yaml.compose(source.text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        raise source.error(error.position, f"the character #x{error.character:04x} is not allowed; remove it") from None
    except yaml.MarkedYAMLError as error:
        place = 0 if error.problem_mark is None else error.problem_mark.index
        instead = "; indent with spaces" if error.problem and "\\t" in error.problem else ""
        raise source.error(place, f"YAML: {error.problem}{instead}") from None
    except (ValueError, OverflowError):
        # PyYAML passes an escape such as "\UFFFFFFFF" to chr() unchecked.
        raise source.error(0, "YAML: an escape in a quoted text names no character") from None
    if node is None:
        raise source.error(0, f"the file is empty; expected {expected}")
    return Value(source, node, "the file")


@dataclasses.dataclass(frozen=True)
class Value:
    """One node, the file that it stands in, and how messages call it."""

    source: Source
    node: yaml.Node
    label: str

    @property
    def index(self) -> int:
        """The character at which it starts."""
        return self.node.start_mark.index

    def error(self, message: str) -> InputError:
        """An error at this value."""
        return self.source.error(self.index, f"{self.label}: {message}")

    def scalar(self) -> str:
        """A scalar's text, letter for letter. Raises InputError for a list or a mapping."""
        text: str = self._scalar().value
        return text

    def _scalar(self) -> yaml.ScalarNode:
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.error("expected a single value, got a list or a mapping")
        return self.node

    def text(self) -> str:
        """Text for people. Raises InputError for control characters, lone surrogates, or excessive length."""
        text = self.scalar().strip()
        if len(text) > MAX_TEXT_CHARACTERS:
            raise self.error(f"a text of {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are read")
        if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in text):
            raise self.error("a control character or half a surrogate pair in a text; remove it")
        return text

    def number(self) -> Fraction:
        """An exact number. Raises InputError for anything else."""
        with self.source.at(self.index):
            return rational(self.scalar())

    def choice(self, kind: type[_Choice]) -> _Choice:
        """A member of an enumeration by its name in the file. Raises InputError for anything else."""
        text = self.scalar()
        if text not in [member.value for member in kind]:
            raise self.error(f"{shown(text)} is no choice; {suggestion(text, kind)}")
        return kind(text)

    def items(self) -> Iterator["Value"]:
        """The items of a list, at least one. Raises InputError for anything else."""
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.error("expected a list with at least one item")
        return (Value(self.source, item, f"{self.label}[{index}]") for index, item in enumerate(self.node.value))

    def fields(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, "Value"]:
        """The entries of a mapping by their keys.

        Raises:
            InputError: no mapping; a key that is unknown, repeated or missing.
        """
        required = tuple(required)
        known = (*required, *optional)
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"expected keys with values, as in {{{known[0]}: ...}}; {suggestion('', known)}")
        found: dict[str, Value] = {}
        for key, value in self._pairs(self.node):
            if value.label not in known:
                raise key.error(f"unknown key {shown(value.label)}; {suggestion(value.label, known)}")
            _add(found, key, value)
        for name in required:
            if name not in found:
                raise self.error(f"the key {shown(name)} is missing; add it")
        return found

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.node, yaml.MappingNode)

    def entries(self) -> dict[str, "Value"]:
        """The entries of a mapping with free keys. Raises InputError: no mapping, an empty one, or a key twice."""
        if not isinstance(self.node, yaml.MappingNode) or not self.node.value:
            raise self.error("expected keys with values, as in {key: value}")
        found: dict[str, Value] = {}
        for key, value in self._pairs(self.node):
            _add(found, key, value)
        return found

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple["Value", "Value"]]:
        """Each key, and the value labelled with it."""
        for key_node, value_node in node.value:
            key = Value(self.source, key_node, self.label)
            yield key, Value(self.source, value_node, key.scalar())

    def excerpt(self) -> Excerpt:
        """The scalar's text together with the place of each of its characters."""
        return Excerpt(self.source, self.scalar(), tuple(_places(self.source.text, self._scalar())))


def _add(found: dict[str, Value], key: Value, value: Value) -> None:
    if value.label in found:
        raise key.error(f"the key {shown(value.label)} stands here twice; remove one")
    found[value.label] = value


def _places(text: str, node: yaml.ScalarNode) -> Iterator[int]:
    """For each character of a scalar's value, and for its end, the character of the file that it stands at.

    Walks value and file side by side. Whatever the style, the value's visible characters stand in the file
    in order, with white space, quotes or line ends between them; only where a double-quoted text writes a
    character as an escape is the place that of its neighbour.
    """
    place, end = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">"):
        # The header line is no content; a value at all implies that there is a line after it.
        place = text.find("\n", place, end) + 1 or end
    elif node.style in ("'", '"'):
        place += 1
    for character in node.value:
        if not character.isspace():
            place = max(place, text.find(character, place, end))
        yield min(place, end - 1)
        if not character.isspace() or text[place : place + 1].isspace():
            place += 1
    yield min(place, end)
