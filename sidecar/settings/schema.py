"""The settings file's JSON schema, for editors and for checks in a pipeline.

It says what a file may look like; what it means (units, ranges, who stands over whom) ``sidecar config check`` knows.
"""

from collections.abc import Iterable
from typing import Final, assert_never

from sidecar.settings import kinds
from sidecar.settings.table import SETTINGS, Setting, Shape, default_text, is_required

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, object]:
    """The schema. Nothing is required in the file: environment and flags may give it."""
    return {
        "$schema": DIALECT,
        "title": "Settings of sidecar serve",
        **_mapping(SETTINGS, required=()),
    }


def _mapping(settings: Iterable[Setting], required: Iterable[str]) -> dict[str, object]:
    document: dict[str, object] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {setting.name: _property(setting) for setting in settings},
    }
    names = list(required)
    return {**document, "required": names} if names else document


def _property(setting: Setting) -> dict[str, object]:
    description = f"{setting.meaning} Default: {default_text(setting)}."
    if is_required(setting):
        description = f"{setting.meaning} Required."
    match setting.shape:
        case Shape.ONE:
            return {"description": description, **_item(setting)}
        case Shape.LIST:
            return {"description": description, "type": "array", "minItems": 1, "items": _item(setting)}
        case Shape.PER_PROPERTY | Shape.PER_TENSOR:
            values = dict(setting.kind.schema)
            return {"description": description, "type": "object", "minProperties": 1, "additionalProperties": values}
        case _:
            assert_never(setting.shape)


def _item(setting: Setting) -> dict[str, object]:
    if not setting.parts:
        return dict(setting.kind.schema)
    required = [part.name for part in setting.parts if is_required(part)]
    mapping = _mapping(setting.parts, required)
    if setting.exactly_one:
        mapping["oneOf"] = [{"required": [name]} for name in setting.exactly_one]
    return mapping if setting.kind is kinds.MAPPING else {"anyOf": [dict(setting.kind.schema), mapping]}
