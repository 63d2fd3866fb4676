"""The messages of a stream: ids put in and taken out again, and nothing else moved."""

import random
import re

from sidecar.errors import CallerError, UpstreamError
from sidecar.protocols.open_inference.request import parse_request
from sidecar.protocols.open_inference.stream import (
    ASK_FOR_FINAL,
    IS_FINAL,
    asks_for_final,
    cleaned_error,
    id_of,
    parse_streamed,
    with_body,
    with_own_id,
)
from tests.fuzz import referee
from tests.fuzz.referee import pb
from tests.fuzz.target import Target, require
from tests.fuzz.targets.signatures import requests, responses
from tests.fuzz.wire_mutator import mutated

OWN_ID = "gate-7"
CLIENT_IDS = ("", "42", "gate-7", "\N{GREEK SMALL LETTER OMEGA}" * 3)
REQUEST, RESPONSE = b"\0", b"\1"


def _streamed() -> list[bytes]:
    made = []
    for content in responses():
        message = pb.ModelStreamInferResponse()
        message.infer_response.MergeFromString(content[2:])
        message.infer_response.id = OWN_ID
        message.infer_response.parameters[IS_FINAL].bool_param = True
        made.append(message.SerializeToString())
        message.error_message = f"in ensemble, request id: {OWN_ID}, failed; {OWN_ID}1 did not"
        made.append(message.SerializeToString())
    return made


SEEDS = [REQUEST + seed[1:] for seed in requests()] + [RESPONSE + seed for seed in _streamed()]
_DONORS = {kind: [seed[1:] for seed in SEEDS if seed[:1] == kind] for kind in (REQUEST, RESPONSE)}
_TYPES = {REQUEST: pb.ModelInferRequest, RESPONSE: pb.ModelStreamInferResponse}


def check(data: bytes) -> None:
    if data[:1] == REQUEST:
        _check_request(data[1:])
    else:
        _check_response(data[1:])


def _flag(parameters, name: str) -> bool | None:
    if name not in parameters or parameters[name].WhichOneof("parameter_choice") != "bool_param":
        return None
    return parameters[name].bool_param


def _check_request(content: bytes) -> None:
    try:
        parsed = parse_request(content)
    except CallerError:
        return
    message = referee.parsed(pb.ModelInferRequest, content)
    require(message is not None, "accepted what is no message to others")
    require(id_of(parsed) == message.id, "another id")
    require(asks_for_final(parsed) == (_flag(message.parameters, ASK_FOR_FINAL) is True), "another wish for finals")
    forwarded = pb.ModelInferRequest.FromString(with_own_id(content, OWN_ID))
    require(forwarded.id == OWN_ID, f"forwarded under the id {forwarded.id!r}")
    require(_flag(forwarded.parameters, ASK_FOR_FINAL) is True, "forwarded without asking for finals")
    for each in (message, forwarded):
        each.id = ""
        each.parameters.pop(ASK_FOR_FINAL, None)
    _require_equal(forwarded, message, "our id changed something else")


def _check_response(content: bytes) -> None:
    message = referee.parsed(pb.ModelStreamInferResponse, content)
    try:
        received = parse_streamed(content)
    except UpstreamError:
        return
    require(message is not None, "accepted what is no message to others")
    response = message.infer_response
    require((received.error, received.id) == (message.error_message, response.id), "another error or id")
    require(received.is_final == _flag(response.parameters, IS_FINAL), "another finality")
    require(received.has_tensors == bool(response.outputs or response.raw_output_contents), "tensors not seen")
    _require_equal(pb.ModelInferResponse.FromString(received.body), response, "the body is not the response")
    if not received.id:
        return
    for client_id in CLIENT_IDS:
        _check_rewritten(received, message, client_id)


def _check_rewritten(received, message, client_id: str) -> None:
    expected = pb.ModelStreamInferResponse()
    expected.CopyFrom(message)
    expected.infer_response.id = client_id
    written = with_body(received, received.body, client_id)
    _require_equal(pb.ModelStreamInferResponse.FromString(written), expected, "the client's id changed something else")
    if not received.error:
        return
    cleaned = pb.ModelStreamInferResponse.FromString(cleaned_error(received, client_id))
    del expected.infer_response.outputs[:]
    del expected.infer_response.raw_output_contents[:]
    if received.id == OWN_ID and client_id != OWN_ID:
        left = re.search(rf"{OWN_ID}(?!\d)", cleaned.error_message)
        require(left is None, f"our id is left in {cleaned.error_message!r}")
    expected.error_message = cleaned.error_message
    _require_equal(cleaned, expected, "cleaning an error changed something else")


def _require_equal(one, other, message: str) -> None:
    # As bytes: two messages with a NaN in them need not be equal.
    require(one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True), message)


def mutate(data: bytes, rng: random.Random) -> bytes:
    kind = REQUEST if data[:1] == REQUEST else RESPONSE
    return kind + mutated(data[1:], _TYPES[kind].DESCRIPTOR, _DONORS[kind], rng)


TARGET = Target("stream", check, mutate, SEEDS)
