"""The settings file: strict YAML, every error with its line and column.

Relative paths in it start at the file's own folder, so that it means the same from wherever it is read.
"""

import dataclasses
from pathlib import Path
from typing import Any, Final, assert_never

from sidecar.config import BundleSource, ListenTls, UpstreamTls
from sidecar.errors import InputError
from sidecar.properties.source import decode
from sidecar.properties.yaml_nodes import Value, compose
from sidecar.settings import kinds
from sidecar.settings.given import Given, Level
from sidecar.settings.kinds import Kind
from sidecar.settings.table import SETTINGS, Setting, Shape, is_required

MAX_FILE_BYTES: Final = 1 << 20
"""A settings file has some hundred lines at most."""


def read_settings_file(path: Path, content: bytes | None = None) -> dict[str, Given]:
    """What the file gives, by the settings' names; ``content`` is what it holds, where that has been read already.

    Raises:
        InputError: not readable, no YAML, an unknown or repeated key, or a value that its setting cannot have.
    """
    content = _read(path) if content is None else content
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"{path}: larger than {MAX_FILE_BYTES} bytes; give a settings file")
    root = compose(decode(path, content), expected="settings such as upstream: HOST:PORT")
    fields = root.fields((), [setting.name for setting in SETTINGS])
    return {
        setting.name: _given(setting, fields[setting.name], path.parent)
        for setting in SETTINGS
        if setting.name in fields
    }


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the settings {path}: {error.strerror}; give the path of a YAML file") from error


def _given(setting: Setting, value: Value, folder: Path) -> Given:
    return Given(_value(setting, value, folder), Level.FILE, value.source.place(value.index))


def _value(setting: Setting, value: Value, folder: Path) -> Any:
    match setting.shape:
        case Shape.ONE:
            return _item(setting, value, folder)
        case Shape.LIST:
            return tuple(_item(setting, item, folder) for item in value.items())
        case Shape.PER_PROPERTY | Shape.PER_TENSOR:
            return tuple(_of_key(setting, name, each, folder) for name, each in value.entries().items())
        case _:
            assert_never(setting.shape)


def _of_key(setting: Setting, name: str, value: Value, folder: Path) -> tuple[str, Any]:
    with value.source.at(value.index):
        return kinds.name(name), _scalar(setting.kind, value, folder)


def _scalar(kind: Kind, value: Value, folder: Path) -> Any:
    with value.source.at(value.index):
        return _rooted(kind.parse(value.scalar()), folder)


def _item(setting: Setting, value: Value, folder: Path) -> Any:
    """One value: a scalar, or a mapping where the setting has parts."""
    if not setting.parts or not value.is_mapping:
        return _scalar(setting.kind, value, folder)
    required = [part.name for part in setting.parts if is_required(part)]
    fields = value.fields(required, [part.name for part in setting.parts if not is_required(part)])
    parts = [part for part in setting.parts if part.name in fields]
    alternatives = [name for name in setting.exactly_one if name in fields]
    if setting.exactly_one and len(alternatives) != 1:
        got = " and ".join(alternatives) or "none of them"
        raise value.error(f"got {got}; give one of {', '.join(setting.exactly_one)}")
    values = {part.field: _value(part, fields[part.name], folder) for part in parts}
    try:
        return setting.make(**values)
    except ValueError as error:
        raise value.error(str(error)) from None


def _rooted(value: Any, folder: Path) -> Any:
    match value:
        case Path():
            return folder / value
        case BundleSource():
            return BundleSource(folder / value.path, value.model_name)
        case ListenTls() | UpstreamTls():
            fields = {field.name: _rooted(getattr(value, field.name), folder) for field in dataclasses.fields(value)}
            return dataclasses.replace(value, **fields)
        case _:
            return value
