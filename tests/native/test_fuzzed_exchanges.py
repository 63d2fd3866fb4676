"""What fuzzing has kept of requests and answers: the native evaluation decides as Python does, or hands over.

Fuzzing itself compares too, where the native transport is built (`make fuzz FUZZ_TARGETS=exchange`).
"""

import pytest

from tests.fuzz import framing
from tests.fuzz.catalogue import stored
from tests.fuzz.targets.exchange import COMPARED, SEEDS
from tests.transports import NATIVE_IS_BUILT, NOT_BUILT

pytestmark = pytest.mark.skipif(not NATIVE_IS_BUILT, reason=NOT_BUILT)


def test_what_fuzzing_kept_is_decided_alike():
    inputs = [*SEEDS, *(path.read_bytes() for path in stored("exchange"))]
    whys = []
    for selector, request, response in (framing.split(data, 3) for data in inputs):
        variant = selector[0] % len(COMPARED) if selector else 0
        whys.append(COMPARED[variant].why_handed(request, response))
    assert whys.count(None) > 50, "next to nothing was decided natively: this proves nothing"
    assert len(set(whys)) > 8
