"""The settings as flags of a command."""

import argparse
from collections.abc import Callable
from typing import Any

from sidecar.properties.source import Complaint
from sidecar.settings import kinds
from sidecar.settings.table import SETTINGS, Setting, Shape, default_text


def argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` for argparse, which shows a message of one type of error only."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except Complaint as complaint:
            raise argparse.ArgumentTypeError(str(complaint)) from None

    return read


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each setting that has one; what is not given stays None: environment and file can give it."""
    for setting in (each for each in SETTINGS if each.flag):
        options: dict[str, Any] = {"dest": setting.name, "default": None, "help": _help(setting)}
        if setting.kind is kinds.BOOLEAN:
            parser.add_argument(setting.flag, action=argparse.BooleanOptionalAction, **options)
        else:
            options |= {"type": argument(setting.kind.parse), "metavar": setting.kind.metavar}
            parser.add_argument(setting.flag, action="append" if setting.shape is Shape.LIST else "store", **options)


def _help(setting: Setting) -> str:
    default = default_text(setting)
    more = "repeatable; " if setting.shape is Shape.LIST else ""
    text = f"{setting.meaning} ({more}{default if default == 'required' else f'default: {default}'})"
    return text.replace("%", "%%")


def values(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags gave, by the settings' names."""
    found = {setting.name: getattr(arguments, setting.name) for setting in SETTINGS if setting.flag}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
