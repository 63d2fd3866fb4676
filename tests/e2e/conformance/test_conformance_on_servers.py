"""A named set of the conformance cases on each real server; `make conformance` runs them all.

The set is chosen so that each way of answering is in it. TorchServe's cases are few and run whole, in
`test_torchserve`.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.conformance.cases import CASES
from tests.conformance.guarded_model import MODEL, request
from tests.e2e.conformance.asking import SERVICE, Way
from tests.e2e.conformance.limits import Limit, answer_limit, is_refusal, limits_of
from tests.e2e.conformance.playing import Verdict, play
from tests.e2e.conformance.product import run_cases, running_stage
from tests.e2e.conformance.script import tensors
from tests.e2e.conformance.servers import WAYS, Kind, ScriptedServer, scripted_server
from tests.e2e.conformance.table import lines_of
from tests.e2e.installing import ServerUnavailable
from tests.integration.proxy_harness import Loop

ON_SERVERS = [pytest.mark.e2e, pytest.mark.slow]

SMOKE = (
    "a-row-outside-every-domain",
    "a-satisfied-row",
    "typed-contents-both-ways",
    "unknown-request-fields-pass",
    "a-sequence-named-by-number,-start",
    "another-tensor-besides-the-gated-ones",
    "one-gated-output-asked-for",
    "only-an-ungated-output-asked-for",
    "note-then-y-asked-for-of-a-projected-row",
    "projected-onto-a-ceiling",
    "only-the-violating-row-of-a-batch",
    "a-NaN-row-outside-beside-a-corrected-one",
    "a-fallback",
    "two-properties-jointly",
    "a-gate-refuses",
    "NaN-cannot-be-projected",
    "a-request-with-the-raw-contents-first-that-is-judged",
    "a-request-with-typed-contents-half-packed-that-is-judged",
    "an-unknown-group-in-typed-contents",
    "an-output-missing",
    "an-output-of-another-shape",
    "no-protobuf",
    "a-model-without-bundle",
    "an-input-twice",
    "another-datatype",
    "more-values-than-the-shape-says",
    "raw-and-typed-contents",
    "NaN-in-a-gated-input",
    "an-input-in-shared-memory",
    "an-output-in-shared-memory",
    "classification-of-a-gated-output",
)
RECEIVE_LIMITS = {Kind.TRITON: 16 << 20, Kind.MLSERVER: 4 << 20, Kind.KSERVE: 8 << 20}
"""Bytes of a message; Triton has none, and takes more than any other."""


def _request_of(size: int) -> bytes:
    """A request of so many bytes, more or less ten: a string that nobody looks at fills it."""
    message = request([0.75, 0])
    message.inputs.add(name="hint", datatype="BYTES", shape=[1])
    string = size - message.ByteSize() - 9
    message.raw_input_contents.append(string.to_bytes(4, "little") + bytes(string))
    assert abs(message.ByteSize() - size) < 10
    return message.SerializeToString()


BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module", params=Kind)
def server(request, tmp_path_factory, server_logs: list[Path]) -> Iterator[ScriptedServer]:
    folder = tmp_path_factory.mktemp(request.param)
    server_logs.append(folder / "server" / f"{request.param}.log")
    try:
        with scripted_server(request.param, folder, (MODEL,)) as server:
            yield server
    except ServerUnavailable as error:
        pytest.skip(f"NOT RUN: no {request.param} on this machine: {error}")


class TestOnServers:
    pytestmark = ON_SERVERS

    def test_the_named_cases_come_out_as_stated(self, server, loop, tmp_path, record_property):
        for way in WAYS[server.kind]:
            folder = tmp_path / way
            folder.mkdir()
            share = run_cases(loop, server, way, [BY_NAME[name] for name in SMOKE], folder)
            assert share.of(Verdict.PASSED) == list(share.results), "\n".join(lines_of([share]))
            record_property("counted", f"conformance, {server.kind} by {way}: {len(share.results)} cases")

    def test_without_the_sidecar_they_do_not(self, server, loop, tmp_path):
        with running_stage(loop, server, Way.CALL, tmp_path) as stage:
            unguarded = dataclasses.replace(stage, through=stage.direct)
            verdicts = {play(BY_NAME[name], unguarded).verdict for name in SMOKE}
        assert verdicts == {Verdict.FAILED}

    def test_a_message_over_the_servers_limit_is_told_and_one_below_is_judged(self, server, loop, tmp_path):
        server.script.say(tensors(BY_NAME["projected-onto-a-ceiling"].answer) or [])
        limit = RECEIVE_LIMITS[server.kind]
        with running_stage(loop, server, Way.CALL, tmp_path) as stage:
            below, over = (stage.through.ask(_request_of(limit + more)) for more in (-100, 100))
        assert below.trailers["gate-outcome"] == "corrected", below.details
        if server.kind is Kind.TRITON:
            assert over.body is not None
        else:
            assert re.search(rf"larger than max \(\d+ vs\. {limit}\)", over.details)
            assert over.trailers["gate-reason"] == "upstream_error"

    @pytest.mark.parametrize("server", [Kind.MLSERVER], indirect=True)
    def test_a_stream_of_messages_that_are_not_the_protocols_shows_nothing(self, server, loop, tmp_path):
        case = BY_NAME["projected-onto-a-ceiling"]
        server.script.say(tensors(case.answer) or [])
        with running_stage(loop, server, Way.STREAM, tmp_path) as stage:
            streams = [
                asker.channel.stream_stream(SERVICE + "ModelStreamInfer") for asker in (stage.direct, stage.through)
            ]
            assert len(list(streams[0](iter([case.request]), timeout=20))) == 1
            with pytest.raises(grpc.RpcError) as caught:
                list(streams[1](iter([case.request]), timeout=20))
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert caught.value.details().startswith("upstream_malformed")


PLAYABLE = {Kind.TRITON: 975, Kind.MLSERVER: 971, Kind.KSERVE: 974}
"""At least so many cases, of calls, hang on no limit."""


@pytest.mark.parametrize("kind", Kind)
def test_limits_name_cases_that_exist_and_leave_nearly_all_to_be_played(kind: Kind):
    for way in WAYS[kind]:
        stated = limits_of(kind, way)
        assert set(stated) <= set(BY_NAME)
        played = [
            case
            for case in CASES
            if is_refusal(case) or not (isinstance(stated.get(case.name), Limit) or answer_limit(case))
        ]
        assert len(played) >= PLAYABLE[kind] - (way is Way.STREAM) * 3


def test_no_limit_is_stated_in_vain():
    found = {answer_limit(case) for case in CASES if not is_refusal(case)}
    found |= {limit for kind in Kind for way in WAYS[kind] for limit in limits_of(kind, way).values()}
    assert set(Limit) - found == {Limit.DOWN, Limit.STATUS, Limit.ACTIVATION, Limit.DIMENSIONS}, "see `policies`"
