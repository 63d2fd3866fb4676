"""The settings in force as a settings file, each with a comment that says where it comes from."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, assert_never

from sidecar.settings.given import Given
from sidecar.settings.resolve import Resolved
from sidecar.settings.table import SETTINGS, Setting, Shape

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
        yield f"{setting.name}: {_item(setting, given.value)}  # {given.place}"


def _item(setting: Setting, value: Any) -> str:
    if not setting.parts:
        return _text(setting, value)
    parts = ((part, getattr(value, part.field, None)) for part in setting.parts)
    return f"{{{', '.join(f'{part.name}: {_part(part, each)}' for part, each in parts if each not in (None, ()))}}}"


def _part(part: Setting, value: Any) -> str:
    match part.shape:
        case Shape.PER_PROPERTY | Shape.PER_TENSOR:
            return f"{{{', '.join(f'{_quoted(name)}: {_text(part, each)}' for name, each in value)}}}"
        case Shape.LIST:
            return f"[{', '.join(_item(part, each) for each in value)}]"
        case Shape.ONE:
            return _item(part, value)
        case _:
            assert_never(part.shape)


def _text(setting: Setting, value: Any) -> str:
    return _quoted(setting.kind.show(value))


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
