"""The crates' own tests."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.transports import NATIVE_IS_BUILT, NOT_BUILT

CRATES = Path(__file__).parents[2] / "sidecar" / "native"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not NATIVE_IS_BUILT, reason=NOT_BUILT)]


def test_the_crates_own_tests_pass() -> None:
    """Built with overflow checks and assertions, which the transport that the other tests use is without."""
    command = ["cargo", "test", "--quiet", "--locked", "--workspace"]
    done = subprocess.run(command, cwd=CRATES, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(map(int, re.findall(r"test result: ok. (\d+) passed", done.stdout))) > 90
