"""The settings file: settings that read the same when they are shown and read again, or one line."""

import random
from pathlib import Path

from sidecar.errors import InputError
from sidecar.settings.resolve import resolve
from sidecar.settings.show import render
from sidecar.settings.table import BUNDLE_SETTINGS, SETTINGS
from tests.fuzz.target import Target, require
from tests.fuzz.targets.files import check_complaint, written
from tests.fuzz.text_mutator import mutated

SEEDS = [
    b"upstream: h:1\nbundles: [{path: a, modes: {p: off}}, m=b]\ndrain: 3s\nmessage_limit: 1MiB\ntrusted_keys: [k]\n",
    b"upstream: 'h:2'\nbundles:\n  - path: a\n    mode: shadow\n  - https://h/b.gates\noutside: refuse\n",
]
WORDS = [
    *(setting.name.encode() for setting in (*SETTINGS, *BUNDLE_SETTINGS)),
    *(
        b"h:1",
        b"3s",
        b"1MiB",
        b"off",
        b"enforce",
        b"true",
        b"a=b",
        b"-1s",
        b"1e9s",
        b"[",
        b"]",
        b"{",
        b"}",
        b":",
        b", ",
        b"&x",
        b"*x",
    ),
    *(
        b"\n",
        b"- ",
        b"'",
        b'"',
        b"|",
        b"!!set",
        b"~",
        b"9" * 400,
        b"1h",
        b"0",
        b".5s",
        b"unix:",
        b"[::1]:1",
        b"h:99999",
        b"#",
    ),
]


def check(data: bytes) -> None:
    resolved = _resolved(written("sidecar.yaml", data))
    if resolved is None:
        return
    shown = render(resolved)
    again = _resolved(written("sidecar.yaml", shown.encode()))
    require(again is not None, f"what was shown is not read again: {shown!r}")
    require(again.settings == resolved.settings, "what was shown means other settings")


def _resolved(path: Path):
    try:
        return resolve(path, {}, {})
    except InputError as error:
        check_complaint(error)
        return None


def mutate(data: bytes, rng: random.Random) -> bytes:
    return mutated(data, WORDS, SEEDS, rng)


TARGET = Target("settings", check, mutate, SEEDS, limit_seconds=3.0)
