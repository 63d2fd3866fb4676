"""Where answers without the upstream are made: small ones here and now, large ones in the client's turn."""

import asyncio
import threading

import pytest

from sidecar.proxy.active_bundle import activate, active_models
from sidecar.proxy.request_path import admit
from sidecar.proxy.workers import MAX_ROWS_ON_THE_LOOP, Workers
from tests.conformance.guarded_model import bundle_bytes, request

BUNDLE = activate(bundle_bytes())


def plan_of(rows: int):
    return admit(request([[2.5, 0.0]] * rows).SerializeToString(), (), active_models([BUNDLE])).plan


@pytest.mark.parametrize(("rows", "is_here"), [(MAX_ROWS_ON_THE_LOOP, True), (MAX_ROWS_ON_THE_LOOP + 1, False)])
def test_an_answer_without_the_upstream_is_made_where_its_batch_belongs(rows, is_here):
    workers = Workers()

    async def made() -> threading.Thread:
        return await workers.compute(plan_of(rows), "client", threading.current_thread)

    try:
        assert (asyncio.run(made()) is threading.current_thread()) is is_here
    finally:
        workers.close()


@pytest.mark.parametrize("rows", [1, MAX_ROWS_ON_THE_LOOP + 1])
def test_what_goes_wrong_reaches_who_asked(rows):
    workers = Workers()

    def failing(text: str) -> None:
        raise ValueError(text)

    async def make() -> None:
        await workers.compute(plan_of(rows), "client", failing, "torn")

    try:
        with pytest.raises(ValueError, match="torn"):
            asyncio.run(make())
    finally:
        workers.close()
