"""From file, environment and flags to the settings in force. The caller hands the environment in."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidecar.config import ServeSettings
from sidecar.errors import InputError
from sidecar.properties.source import Complaint
from sidecar.settings.file import read_settings_file
from sidecar.settings.given import Given, Level
from sidecar.settings.table import PREFIX, SETTINGS, Setting, Shape, is_required

_NEAR = 0.85
"""How like a setting's variable another must be to be taken for a slip of the pen. Kubernetes puts variables with
our prefix into containers beside a service called gate-..., so the unknown ones cannot all be refused."""


@dataclasses.dataclass(frozen=True)
class Resolved:
    """The settings in force.

    Args:
        settings: the values.
        given: where each comes from, by the settings' names, in their order.
        notes: what looks like a mistake and is not certainly one.
    """

    settings: ServeSettings
    given: Mapping[str, Given]
    notes: tuple[str, ...]


def resolve(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any], content: bytes | None = None
) -> Resolved:
    """Flags over environment over file over defaults; a list is replaced as a whole.

    Args:
        file: the settings file, if there is one.
        environment: the process's variables.
        flags: values by the settings' names; None where not given.
        content: what the file holds, where that has been read already.

    Raises:
        InputError: a value that its setting cannot have, a required one missing, or values that exclude one another.
    """
    given = {} if file is None else read_settings_file(file, content)
    given |= _from_environment(environment)
    given |= {
        setting.name: Given(flags[setting.name], Level.FLAG, f"flag {setting.flag}")
        for setting in SETTINGS
        if setting.flag and flags.get(setting.name) is not None
    }
    for setting in SETTINGS:
        if is_required(setting) and setting.name not in given:
            raise _missing(setting, file)
    return _resolved(_mode_over_modes(given), _notes(environment))


def _from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    return {
        setting.name: Given(_parsed(setting, environment[setting.variable]), Level.ENVIRONMENT, setting.variable)
        for setting in SETTINGS
        if setting.flag and setting.variable in environment
    }


def _parsed(setting: Setting, text: str) -> Any:
    try:
        if not text:
            raise Complaint("it is set and empty; unset it, or give it a value")
        if setting.shape is Shape.LIST:
            return tuple(setting.kind.parse(part) for part in text.split(","))
        return setting.kind.parse(text)
    except Complaint as complaint:
        raise InputError(f"environment variable {setting.variable}: {complaint}") from None


def _missing(setting: Setting, file: Path | None) -> InputError:
    where = "in a --config file" if file is None else f"in {file}"
    return InputError(
        f"{setting.name} is not given: use {setting.flag} {setting.kind.metavar}, {setting.variable}, "
        f"or {setting.name}: {where}"
    )


def _mode_over_modes(given: dict[str, Given]) -> dict[str, Given]:
    """Who gives a mode over the file means all of the file: none of its bundles stays enforced or off by itself."""
    mode, bundles = given.get("mode"), given["bundles"]
    if mode is None or mode.level <= bundles.level:
        return given
    plain = tuple(dataclasses.replace(source, mode=None, modes=()) for source in bundles.value)
    return given | {"bundles": dataclasses.replace(bundles, value=plain)}


def _notes(environment: Mapping[str, str]) -> tuple[str, ...]:
    known = [setting.variable for setting in SETTINGS if setting.flag]
    notes = []
    for variable in sorted(environment):
        if variable.startswith(PREFIX) and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1, cutoff=_NEAR)
            notes += [f"environment variable {variable} is no setting; did you mean {name}?" for name in near]
    return tuple(notes)


def _resolved(given: Mapping[str, Given], notes: tuple[str, ...]) -> Resolved:
    values = {setting.field: given[setting.name].value for setting in SETTINGS if setting.name in given}
    try:
        settings = ServeSettings(**values)
    except ValueError as error:
        raise _excluding(str(error), given) from None
    complete = {
        setting.name: given.get(setting.name) or Given(getattr(settings, setting.field), Level.DEFAULT, "default")
        for setting in SETTINGS
    }
    return Resolved(settings, complete, notes)


def _excluding(message: str, given: Mapping[str, Given]) -> InputError:
    """An error about values that do not go together, at the first that it names, in the settings' own names."""
    names = {setting.field: setting.name for setting in SETTINGS}
    told = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), message)
    places = [given[word].place for word in re.findall(r"\w+", told) if word in given]
    return InputError(": ".join([*places[:1], told]))
