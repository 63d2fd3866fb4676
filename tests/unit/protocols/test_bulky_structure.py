"""Large requests: what must not be parsed, because its objects would take many times the message's size."""

import tracemalloc

import pytest

from sidecar.errors import CallerError, Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.bulk import (
    MAX_STRUCTURE_BYTES,
    SMALL_MESSAGE_BYTES,
    refuse_bulky_structure,
)
from sidecar.protocols.open_inference.request import parse_request
from tests.conformance.guarded_model import request, typed_request

MANY = 8 * 1024 * 1024
"""Bytes of each bad message."""


def _field(number: int, payload: bytes) -> bytes:
    size, encoded = len(payload), bytearray()
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes([number << 3 | 2]) + bytes(encoded) + payload


def _in_contents(unit: bytes) -> bytes:
    return _field(5, _field(1, b"x") + _field(5, unit * (MANY // len(unit))))


BULKY = {
    "empty inputs": b"\x2a\x00" * (MANY // 2),
    "empty outputs": b"\x32\x00" * (MANY // 2),
    "empty raw contents": b"\x3a\x00" * (MANY // 2),
    "parameters": b"\x22\x00" * (MANY // 2),
    "unknown numbers": b"\xf8\x3f\x01" * (MANY // 3),
    "a shape of many dimensions": _field(5, _field(3, b"\x01" * MANY)),
    "a tensor of many parameters": _field(5, b"\x22\x00" * (MANY // 2)),
    "a tensor of many contents": _field(5, b"\x2a\x00" * (MANY // 2)),
    "an output of many parameters": _field(6, b"\x12\x00" * (MANY // 2)),
    "an output of many unknown numbers": _field(6, b"\x50\x00" * (MANY // 2)),
    "groups": (b"\xfb\x3f" + b"\x08\x00" * 4095 + b"\xfc\x3f") * (MANY // 8194),
    "a long name": _field(5, _field(1, b"x" * MANY)),
    "small integers": _field(5, _field(5, _field(3, b"\x01" * MANY))),
    "empty strings": _in_contents(b"\x42\x00"),
    "unpacked floats": _in_contents(b"\x35\0\0\0\0"),
}


@pytest.mark.parametrize("content", BULKY.values(), ids=[name.replace(" ", "-") for name in BULKY])
def test_a_large_message_of_small_pieces_is_refused_without_being_parsed(content):
    tracemalloc.start()
    try:
        with pytest.raises(CallerError, match=str(MAX_STRUCTURE_BYTES)) as error:
            parse_request(content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert error.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content + b"\x0f", lambda content: content + b"\x2c"]
)
def test_a_large_message_that_is_no_protobuf_is_malformed(damage):
    message = request([0.75, 0])
    message.raw_input_contents.append(bytes(SMALL_MESSAGE_BYTES))
    with pytest.raises(CallerError) as error:
        refuse_bulky_structure(damage(message.SerializeToString()))
    assert error.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("unit", [b"\x08\x00", b"\x0b\x0c", b"\x0b"], ids=["numbers", "empty-groups", "nested-groups"])
def test_a_group_without_end_in_sight_is_not_walked_to_its_end(unit):
    content = b"\xfb\x3f" + unit * (MANY // len(unit)) + b"\xfc\x3f"
    tracemalloc.start()
    try:
        with pytest.raises(CallerError, match="fields in the group of field 1023") as error:
            parse_request(content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert error.value.reason is Reason.MALFORMED_REQUEST


def test_large_tensors_are_no_structure():
    raw = request([[0.75, 0]] * 1_000_000)
    typed = typed_request([0.75, 0])
    typed.inputs[0].contents.fp32_contents.extend([0.5] * 2_000_000)
    strings = typed_request([0.75, 0])
    strings.inputs.add(name="text").contents.bytes_contents.extend([b"x" * 1_000_000] * 8)
    for message in (raw, typed, strings):
        content = message.SerializeToString()
        assert len(content) > MAX_STRUCTURE_BYTES
        assert parse_request(content).message == message


def test_a_small_message_may_consist_of_anything():
    content = b"\x2a\x00" * (SMALL_MESSAGE_BYTES // 2)
    assert len(parse_request(content).message.inputs) == SMALL_MESSAGE_BYTES // 2


def test_the_smallest_large_message_is_looked_at():
    refuse_bulky_structure(pb.ModelInferRequest(model_name="x" * SMALL_MESSAGE_BYTES).SerializeToString())
