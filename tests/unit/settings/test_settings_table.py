"""The table of settings against the values that it fills, and what is generated from it against the table."""

import dataclasses
import re
from pathlib import Path

from sidecar.config import BundleSource, HttpSource, ModelSettings, OciSource, ServeSettings, TorchServeSettings
from sidecar.settings.reference import reference
from sidecar.settings.resolve import resolve
from sidecar.settings.schema import schema
from sidecar.settings.table import (
    BUNDLE_SETTINGS,
    MODEL_SETTINGS,
    SETTINGS,
    TORCHSERVE_SETTINGS,
    Shape,
    default_text,
    is_required,
)

PAGE = Path(__file__).parents[3] / "deploy" / "reference" / "settings.md"


def test_every_field_has_one_setting_and_every_setting_a_field() -> None:
    for settings, kinds in (
        (SETTINGS, [ServeSettings]),
        (BUNDLE_SETTINGS, [BundleSource, HttpSource, OciSource]),
        (MODEL_SETTINGS, [ModelSettings]),
        (TORCHSERVE_SETTINGS, [TorchServeSettings]),
    ):
        fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
        assert sorted(setting.field for setting in settings) == sorted(fields)
        assert len({setting.name for setting in settings}) == len(settings)


def test_flags_and_variables_are_distinct() -> None:
    flagged = [setting for setting in SETTINGS if setting.flag]
    assert [setting.name for setting in SETTINGS if not setting.flag] == ["models"], "the others are scalars or lists"
    assert len({setting.flag for setting in flagged}) == len({setting.variable for setting in flagged}) == len(flagged)


def test_what_has_no_default_that_can_be_shown_says_what_holds() -> None:
    for setting in (*SETTINGS, *BUNDLE_SETTINGS, *MODEL_SETTINGS, *TORCHSERVE_SETTINGS):
        assert setting.meaning.endswith(".")
        assert bool(setting.unset) == (setting.default is None) or setting.shape is not Shape.ONE


def test_defaults_read_as_what_they_are() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(ServeSettings)}
    for setting in SETTINGS:
        if setting.shape is Shape.ONE and not is_required(setting) and not setting.unset:
            assert setting.kind.parse(default_text(setting)) == defaults[setting.field]


def test_the_reference_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == reference(), "run: sidecar config reference > deploy/reference/settings.md"


def test_the_example_on_the_reference_page_can_be_used(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", reference(), re.DOTALL)
    assert found is not None
    path = tmp_path / "sidecar.yaml"
    path.write_text(found[1])
    assert len(resolve(path, {}, {}).settings.bundles) == 2


def test_the_schema_knows_every_setting_and_nothing_else() -> None:
    document = schema()
    assert document["additionalProperties"] is False
    assert list(document["properties"]) == [setting.name for setting in SETTINGS]
    text, mapping = document["properties"]["bundles"]["items"]["anyOf"]
    assert text["type"] == "string"
    assert mapping["oneOf"] == [{"required": ["path"]}, {"required": ["url"]}]
    assert mapping["additionalProperties"] is False
    assert list(mapping["properties"]) == [part.name for part in BUNDLE_SETTINGS]
    assert mapping["properties"]["modes"]["additionalProperties"] == {"enum": ["enforce", "shadow", "off"]}
    assert document["properties"]["trusted_keys"]["items"] == {"type": "string", "minLength": 1}


def test_models_are_mappings_in_the_schema() -> None:
    items = schema()["properties"]["models"]["items"]
    assert (items["type"], items["required"], items["additionalProperties"]) == ("object", ["name"], False)
    torchserve = items["properties"]["torchserve"]
    assert (torchserve["type"], torchserve["required"]) == ("object", ["format"])
    assert torchserve["properties"]["inputs"]["additionalProperties"] == {"type": "string", "minLength": 1}


def test_mappings_within_mappings_are_on_the_reference_page() -> None:
    page = reference()
    assert page.index("`models` is a mapping") < page.index("`torchserve` is a mapping") < page.index("`other_keys`")
