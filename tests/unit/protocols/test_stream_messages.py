"""The messages of ModelStreamInfer: ids exchanged, errors cleaned, everything else as it was."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import InternalError, Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.request import parse_request
from sidecar.protocols.open_inference.stream import (
    ASK_FOR_FINAL,
    IS_FINAL,
    asks_for_final,
    cleaned_error,
    encode_error,
    id_of,
    parse_streamed,
    with_body,
    with_own_id,
)

IDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
OWN_IDS = st.text("ab0-", min_size=1, max_size=8)
UNKNOWN = b"\xf2\x3f\x02ab\xfb\x3f\x08\x01\xfc\x3f"
"""A field 1022 and a group 1023, which the schema does not have."""


def parsed(content: bytes) -> pb.ModelStreamInferResponse:
    return pb.ModelStreamInferResponse.FromString(content)


def message(*, error: str = "", final: bool | None = None, **fields) -> bytes:
    inner = pb.ModelInferResponse(**fields)
    inner.outputs.add(name="y", datatype="FP32", shape=[1])
    if final is not None:
        inner.parameters[IS_FINAL].bool_param = final
    return pb.ModelStreamInferResponse(error_message=error, infer_response=inner).SerializeToString()


@st.composite
def split_messages(draw: st.DrawFn) -> tuple[bytes, str]:
    """A message whose ModelInferResponse comes in pieces, with ids and unknown fields anywhere; and its id."""
    own_id = draw(OWN_IDS)
    ids = [*draw(st.lists(OWN_IDS, max_size=3)), own_id]
    pieces = []
    for each in ids:
        inner = pb.ModelInferResponse(id=each)
        for name in draw(st.lists(IDS, max_size=2)):
            inner.outputs.add(name=name)
            inner.raw_output_contents.append(draw(st.binary(max_size=4)))
        piece = inner.SerializeToString() + draw(st.sampled_from([b"", UNKNOWN]))
        tag = draw(st.sampled_from([b"\x12", b"\x92\x00"]))  # shortest form or not
        pieces.append(tag + bytes([len(piece)]) + piece)
        pieces.append(draw(st.sampled_from([b"", UNKNOWN])))
    return b"".join(pieces), own_id


@given(split_messages(), IDS)
def test_nothing_but_the_id_changes(split, client_id):
    content, own_id = split
    received = parse_streamed(content)
    assert received.id == own_id
    expected = parsed(content)
    expected.infer_response.id = client_id
    got = with_body(received, received.body, client_id)
    assert parsed(got).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert got.count(UNKNOWN) == content.count(UNKNOWN)


def test_the_same_id_leaves_the_very_bytes():
    content = message(id="x", model_name="m", final=False) + UNKNOWN
    received = parse_streamed(content)
    assert with_body(received, received.body, "x") == content


def test_a_message_that_does_not_decode_to_its_body_is_a_defect_of_ours():
    received = dataclasses.replace(parse_streamed(message(id="x", error="e")), error="another")
    with pytest.raises(InternalError):
        with_body(received, received.body, "x")


LARGE_GROUP = b"\xfb\x3f" + b"\x08\x01" * 5000 + b"\xfc\x3f"


@pytest.mark.parametrize("content", [b"\xff", b"\x12\x01\xff", b"\x0a\x01\xff", b"\x12\x05ab", LARGE_GROUP])
def test_bytes_that_are_no_message_are_the_upstreams_fault(content):
    with pytest.raises(UpstreamError) as caught:
        parse_streamed(content)
    assert caught.value.reason is Reason.UPSTREAM_MALFORMED


@pytest.mark.parametrize("final", [None, True, False])
def test_what_a_response_says_of_being_the_last_one_is_read(final):
    assert parse_streamed(message(final=final)).is_final is final


def test_a_flag_of_another_type_says_nothing():
    content = pb.ModelStreamInferResponse()
    content.infer_response.parameters[IS_FINAL].string_param = "true"
    assert parse_streamed(content.SerializeToString()).is_final is None


@pytest.mark.parametrize(
    ("response", "has_tensors"),
    [
        (pb.ModelInferResponse(model_name="m"), False),
        (pb.ModelInferResponse(raw_output_contents=[b""]), True),
        (pb.ModelInferResponse(outputs=[pb.ModelInferResponse.InferOutputTensor()]), True),
    ],
)
def test_whether_a_response_carries_tensors_is_told(response, has_tensors):
    content = pb.ModelStreamInferResponse(infer_response=response).SerializeToString()
    assert parse_streamed(content).has_tensors is has_tensors


class TestCleanedErrors:
    def test_carry_no_tensors_and_keep_the_rest(self):
        content = message(id="own-1", error="bad", model_name="m", final=True, raw_output_contents=[b"abcd"])
        got = parsed(cleaned_error(parse_streamed(content), "7"))
        assert (got.error_message, got.infer_response.id, got.infer_response.model_name) == ("bad", "7", "m")
        assert got.infer_response.parameters[IS_FINAL].bool_param
        assert not got.infer_response.outputs
        assert not got.infer_response.raw_output_contents

    @pytest.mark.parametrize(
        ("client_id", "text"),
        [
            ("7", "[request id: 7] own-12, 7."),
            (r"\1", r"[request id: \1] own-12, \1."),
            ("", "[request id: <id_unknown>] own-12, <id_unknown>."),
        ],
    )
    def test_say_the_clients_id_where_they_said_ours(self, client_id, text):
        content = message(id="own-1", error="[request id: own-1] own-12, own-1.")
        assert parsed(cleaned_error(parse_streamed(content), client_id)).error_message == text

    def test_of_several_texts_the_one_that_counts_stays(self):
        content = message(error="first") + UNKNOWN + message(id="x", error="second")
        got = cleaned_error(parse_streamed(content), "7")
        assert parsed(got).error_message == "second"
        assert b"first" not in got
        assert UNKNOWN in got


class TestOwnErrors:
    @pytest.mark.parametrize("final", [None, True, False])
    def test_say_whether_what_they_stand_for_is_the_last(self, final):
        got = parse_streamed(encode_error("why", "7", final))
        assert (got.error, got.id, got.is_final, got.has_tensors) == ("why", "7", final, False)


class TestRequests:
    @given(IDS, st.sampled_from([None, True, False, "true"]))
    def test_get_our_id_and_ask_for_the_final_response(self, client_id, asked):
        request = pb.ModelInferRequest(model_name="m", id=client_id)
        request.parameters["sequence_id"].int64_param = 7
        if asked is not None:
            setattr(request.parameters[ASK_FOR_FINAL], "string_param" if asked == "true" else "bool_param", asked)
        content = request.SerializeToString() + UNKNOWN
        received = parse_request(content)
        assert (id_of(received), asks_for_final(received)) == (client_id, asked is True)
        sent = with_own_id(content, "own-1")
        assert sent.startswith(content)
        got, expected = pb.ModelInferRequest.FromString(sent), pb.ModelInferRequest.FromString(content)
        expected.id = "own-1"
        expected.parameters[ASK_FOR_FINAL].bool_param = True
        assert got == expected


@st.composite
def damaged_messages(draw: st.DrawFn) -> bytes:
    content, _ = draw(split_messages())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + draw(st.integers(0, 3)) :]
    return content


@settings(max_examples=400)
@given(damaged_messages() | st.binary(max_size=12), st.sampled_from(["", "7"]))
def test_any_bytes_are_what_protobuf_says_or_the_upstreams_fault(content, client_id):
    try:
        received = parse_streamed(content)
    except UpstreamError:
        return
    expected = parsed(content)
    assert (received.error, received.id) == (expected.error_message, expected.infer_response.id)
    # As bytes: two messages with a NaN in them need not be equal.
    body = pb.ModelInferResponse.FromString(received.body).SerializeToString(deterministic=True)
    assert body == expected.infer_response.SerializeToString(deterministic=True)
    if received.id:
        assert parsed(with_body(received, received.body, client_id)).infer_response.id == client_id
        if received.error:
            assert not parsed(cleaned_error(received, client_id)).infer_response.outputs
