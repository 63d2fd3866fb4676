"""The settings file: strict YAML, every error with its line and column.

Relative paths in it start at the file's own folder, so that it means the same from wherever it is read.
"""

from pathlib import Path
from typing import Any, Final, assert_never

from sidecar.config import BundleSource
from sidecar.errors import InputError
from sidecar.properties.source import decode
from sidecar.properties.yaml_nodes import Value, compose
from sidecar.settings.given import Given, Level
from sidecar.settings.kinds import Kind
from sidecar.settings.table import BUNDLE_SETTINGS, SETTINGS, Setting, Shape

MAX_FILE_BYTES: Final = 1 << 20
"""A settings file has some hundred lines at most."""


def read_settings_file(path: Path) -> dict[str, Given]:
    """What the file gives, by the settings' names.

    Raises:
        InputError: not readable, no YAML, an unknown or repeated key, or a value that its setting cannot have.
    """
    root = compose(decode(path, _content(path)), expected="settings such as upstream: HOST:PORT")
    fields = root.fields((), [setting.name for setting in SETTINGS])
    return {
        setting.name: _given(setting, fields[setting.name], path.parent)
        for setting in SETTINGS
        if setting.name in fields
    }


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the settings {path}: {error.strerror}; give the path of a YAML file") from error
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"{path}: larger than {MAX_FILE_BYTES} bytes; give a settings file")
    return content


def _given(setting: Setting, value: Value, folder: Path) -> Given:
    return Given(_value(setting, value, folder), Level.FILE, value.source.place(value.index))


def _value(setting: Setting, value: Value, folder: Path) -> Any:
    match setting.shape:
        case Shape.ONE:
            return _scalar(setting.kind, value, folder)
        case Shape.LIST:
            return tuple(_item(setting, item, folder) for item in value.items())
        case Shape.PER_PROPERTY:
            return tuple((name, _scalar(setting.kind, each, folder)) for name, each in value.entries().items())
        case _:
            assert_never(setting.shape)


def _scalar(kind: Kind, value: Value, folder: Path) -> Any:
    with value.source.at(value.index):
        return _rooted(kind.parse(value.scalar()), folder)


def _item(setting: Setting, value: Value, folder: Path) -> Any:
    """An item of a list; a bundle's may be a mapping, where its modes can stand too."""
    if setting.field != "bundles" or not value.is_mapping:
        return _scalar(setting.kind, value, folder)
    names = [part.name for part in BUNDLE_SETTINGS]
    fields = value.fields(names[:1], names[1:])
    return BundleSource(
        **{part.field: _value(part, fields[part.name], folder) for part in BUNDLE_SETTINGS if part.name in fields}
    )


def _rooted(value: Any, folder: Path) -> Any:
    match value:
        case Path():
            return folder / value
        case BundleSource():
            return BundleSource(folder / value.path, value.model_name)
        case _:
            return value
