"""The settings in force as a settings file, each with a comment that says where it comes from."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from sidecar.config import BundleSource
from sidecar.settings.given import Given
from sidecar.settings.resolve import Resolved
from sidecar.settings.table import BUNDLE_SETTINGS, SETTINGS, Setting, Shape

_PLAIN: Final = re.compile(r"[A-Za-z0-9/.][A-Za-z0-9/._:=-]*(?<!:)")
"""Texts that YAML reads as they stand; all others are quoted."""


def render(resolved: Resolved) -> str:
    """A settings file that means the same; what is not given and has no value is a comment."""
    return "\n".join(line for setting in SETTINGS for line in _lines(setting, resolved.given[setting.name]))


def _lines(setting: Setting, given: Given) -> Iterator[str]:
    if given.value is None or given.value == ():
        yield f"# {setting.name}: {setting.unset or 'none'}  # {given.place}"
    elif setting.shape is Shape.LIST:
        yield f"{setting.name}:  # {given.place}"
        yield from (f"  - {_item(setting, value)}" for value in given.value)
    else:
        yield f"{setting.name}: {_text(setting, given.value)}  # {given.place}"


def _item(setting: Setting, value: Any) -> str:
    if isinstance(value, BundleSource):
        return f"{{{', '.join(_bundle_parts(value))}}}"
    return _text(setting, value)


def _bundle_parts(source: BundleSource) -> Iterator[str]:
    for part in BUNDLE_SETTINGS:
        value = getattr(source, part.field)
        if part.shape is Shape.PER_PROPERTY and value:
            modes = ", ".join(f"{_quoted(name)}: {part.kind.show(mode)}" for name, mode in value)
            yield f"{part.name}: {{{modes}}}"
        elif part.shape is Shape.ONE and value is not None:
            yield f"{part.name}: {_text(part, value)}"


def _text(setting: Setting, value: Any) -> str:
    return _quoted(setting.kind.show(value))


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
