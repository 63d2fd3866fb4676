"""Fuzzing starts from what is accepted: with nothing but refusals there would be nothing to compare."""

from collections.abc import Callable

import pytest

from sidecar.properties.reader import read_properties
from sidecar.protocols.open_inference.request import parse_request, read_request
from sidecar.protocols.open_inference.response import read_response
from sidecar.proxy.active_bundle import activate
from sidecar.settings.resolve import resolve
from tests.fuzz.catalogue import load
from tests.fuzz.targets.files import written
from tests.fuzz.targets.signatures import LIMIT_ROWS, SIGNATURES
from tests.fuzz.targets.vnnlib import SIGNATURE

ACCEPT: dict[str, Callable[[bytes], object]] = {
    "request": lambda data: read_request(parse_request(data[1:]), SIGNATURES[data[0]], LIMIT_ROWS),
    "response": lambda data: read_response(data[2:], SIGNATURES[data[0]], data[1]),
    "bundle": activate,
    "vnnlib": lambda data: read_properties(written("p.vnnlib", data), SIGNATURE),
    "property_yaml": lambda data: read_properties(written("p.yaml", data), SIGNATURE),
    "settings": lambda data: resolve(written("sidecar.yaml", data), {}, {}),
}


@pytest.mark.parametrize("name", ACCEPT)
def test_every_seed_is_accepted(name: str):
    for seed in load(name).seeds:
        ACCEPT[name](seed)
