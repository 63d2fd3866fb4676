"""Both transports, for tests that hold for each: modules ask for them with ``pytestmark = BOTH_TRANSPORTS``.

A fixture that starts a sidecar for a whole module names ``transport`` itself, or the second one would get the first's.
"""

import importlib.util

import pytest

from sidecar.config import TransportChoice
from tests.integration.proxy_harness import Carried

BOTH_TRANSPORTS = pytest.mark.usefixtures("transport")

NATIVE_IS_BUILT = importlib.util.find_spec("gate_sidecar_native") is not None

NOT_BUILT = "NOT RUN: the native transport is not built (make native)"


@pytest.fixture(scope="module", params=[TransportChoice.PORTABLE, TransportChoice.NATIVE])
def transport(request):
    """What carries the calls of the sidecars that a test starts, by default."""
    if request.param is TransportChoice.NATIVE and not NATIVE_IS_BUILT:
        pytest.skip(NOT_BUILT)
    Carried.by = request.param
    yield request.param
    Carried.by = TransportChoice.PORTABLE
