"""Every target fuzzed for a while: 30 s each, or as many as the variable FUZZ_SECONDS says."""

import importlib.util
import os

import pytest

from tests.fuzz.campaign import fuzz, table
from tests.fuzz.catalogue import NAMES

pytestmark = pytest.mark.slow

SECONDS = int(os.environ.get("FUZZ_SECONDS", "30"))


@pytest.mark.parametrize("name", NAMES)
def test_fuzzing_finds_nothing(name: str, record_property):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("NOT RUN: atheris is not installed; it is published for Linux on x86_64 only")
    result = fuzz(name, SECONDS)
    record_property("counted", "fuzzed: " + table([result]).splitlines()[1])
    assert not result.findings, f"{result.findings}\n{result.told}"
    assert result.executions > 10 * SECONDS, "next to nothing was tried: this run proves nothing"
    assert result.coverage > 0, "the fuzzer does not see the product"
