"""One case on a real server: asked of the server itself and through the sidecar, and judged as in memory.

What a case says about the client's answer is said about the upstream's answer to it. In memory that is the case's own;
here it is what the server answers when it is asked directly, once it is shown to mean what the case says.
"""

import dataclasses
import enum
from collections.abc import Mapping

import numpy as np

from sidecar.errors import Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.metrics import Metrics
from tests.conformance.expectations import Case, VeryBytes
from tests.conformance.guarded_model import DTYPES, FIELDS
from tests.conformance.judging import Received, check
from tests.e2e.conformance.asking import Asker, Reply, Way, outcomes
from tests.e2e.conformance.limits import Limit, answer_limit, is_refusal
from tests.e2e.conformance.script import ScriptFolder, Tensor, tensors

GATED = ("y", "z")


class Verdict(enum.StrEnum):
    """What became of a case on a server."""

    PASSED = "passed"
    SERVER_REFUSED = "refused by the server itself, and told so"
    NOT_APPLICABLE = "not applicable"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Result:
    """A verdict; ``why`` is the limit, the server's words or what went wrong."""

    case: str
    verdict: Verdict
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A server with its script and the sidecar before it, asked one way."""

    direct: Asker
    through: Asker
    script: ScriptFolder
    metrics: Metrics
    limits: Mapping[str, Limit | str]
    """See `limits.limits_of`."""


def play(case: Case, stage: Stage) -> Result:
    """The case's verdict."""
    try:
        return _refusal(case, stage) if is_refusal(case) else _exchange(case, stage)
    except (AssertionError, ValueError, LookupError) as error:
        return Result(case.name, Verdict.FAILED, str(error) or repr(error))


def _refusal(case: Case, stage: Stage) -> Result:
    stage.script.say([])
    seen = len(stage.script.seen())
    reply = stage.through.ask(case.request)
    arrived = len(stage.script.seen()) > seen
    check(case, Received(reply.body, reply.trailers, b"" if arrived else None))
    return Result(case.name, Verdict.PASSED)


def _exchange(case: Case, stage: Stage) -> Result:
    stated = stage.limits.get(case.name)
    limit = stated if isinstance(stated, Limit) else answer_limit(case)
    if limit is not None:
        return Result(case.name, Verdict.NOT_APPLICABLE, limit)
    outputs = tensors(case.answer) or []
    stage.script.say(outputs)
    forwarded = case.request if _is_unjudged(case) else as_forwarded(case.request)
    direct = stage.direct.ask(forwarded)
    if direct.body is None:
        return _server_refuses(case, stage, stated, direct)
    assert stated is None, f"the server was said to refuse this with {stated!r}"
    assert _shown(tensors(direct.body), forwarded) == _shown(outputs, forwarded), "the server answers something else"
    received = _received(case, stage, forwarded)
    check(dataclasses.replace(case, answer=direct.body), received)
    return Result(case.name, Verdict.PASSED)


def _server_refuses(case: Case, stage: Stage, stated: str | None, direct: Reply) -> Result:
    assert stated is not None, f"the server does not answer: {direct.details}"
    assert stated in direct.details, f"the server says otherwise than {stated!r}: {direct.details}"
    reply = stage.through.ask(case.request)
    assert reply.body is None
    # Not all of its words: some count bytes of what differs from call to call.
    told = reply.trailers.get("gate-reason") == Reason.UPSTREAM_ERROR or stated in reply.details
    assert told, f"the client is told otherwise: {reply.details}"
    return Result(case.name, Verdict.SERVER_REFUSED, stated)


def _received(case: Case, stage: Stage, forwarded: bytes) -> Received:
    """Asks through the sidecar; the model must be given what protobuf reads in the client's bytes."""
    counted, seen = outcomes(stage.metrics), len(stage.script.seen())
    reply = stage.through.ask(case.request)
    given = stage.script.seen()[seen:]
    assert given in ([None], [input_bytes(case.request)]), f"the model was given {given}"
    trailers = reply.trailers
    if stage.through.way is Way.STREAM:
        now = outcomes(stage.metrics)
        trailers = trailers | {"gate-outcome": ",".join(each for each in now if now[each] > counted[each])}
    return Received(reply.body, trailers, forwarded)


def _is_unjudged(case: Case) -> bool:
    """Whether no gate looks at any row, so that the request goes on as it is."""
    return isinstance(case.expected, VeryBytes) and case.expected.outcome in ("outside", "unjudged")


def as_forwarded(request: bytes) -> bytes:
    """The request as the sidecar has to send it on: it also asks for outputs that gates need."""
    asked = {output.name for output in pb.ModelInferRequest.FromString(request).outputs}
    more = pb.ModelInferRequest()
    for name in GATED if asked else ():
        if name not in asked:
            more.outputs.add(name=name)
    return request + more.SerializeToString()


def input_bytes(request: bytes) -> bytes:
    """What tensor `x` holds, raw."""
    message = pb.ModelInferRequest.FromString(request)
    index = [tensor.name for tensor in message.inputs].index("x")
    if message.raw_input_contents:
        return message.raw_input_contents[index]
    tensor = message.inputs[index]
    return np.array(list(getattr(tensor.contents, FIELDS[tensor.datatype])), DTYPES[tensor.datatype]).tobytes()


def _shown(outputs: list[Tensor] | None, request: bytes) -> list[Tensor] | None:
    """The outputs that were asked for: some servers show the others too."""
    asked = {output.name for output in pb.ModelInferRequest.FromString(request).outputs}
    return outputs and [each for each in outputs if not asked or each.name in asked]
