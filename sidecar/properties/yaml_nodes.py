"""YAML as nodes with places: a strict subset, nothing constructed, every scalar kept as its text.

Texts rather than values, because ``0.1`` must mean one tenth and not the nearest binary number. Refused are
repeated and unknown keys, anchors and aliases, tags, and what is nested or written at excessive length.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final, TypeVar

import yaml

from sidecar.errors import InputError
from sidecar.properties.meaning import suggestion
from sidecar.properties.rationals import rational
from sidecar.properties.source import Complaint, Excerpt, Source, shown

MAX_DEPTH: Final = 16
"""Collections inside one another; a property file needs six."""

_T = TypeVar("_T")

_STANDARD_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's composer, with limits where it would recurse or share nodes."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not read; write the value out", problem_mark=event.start_mark
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags are not read; remove it", problem_mark=event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node
