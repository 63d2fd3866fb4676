"""Moving bytes of serialised messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.wire import WireType, splice, top_level_fields

GROUP = b"\xfb\x3f\x08\x01\xfb\x3f\xfc\x3f\xfc\x3f"  # field 1023: a group with a number and an empty group of its own
EVERY_WIRE_TYPE = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1a\x02hi" + GROUP + b"\x25" + bytes(4)


def test_every_wire_type_is_found():
    fields = list(top_level_fields(EVERY_WIRE_TYPE))
    assert [(field.number, field.wire_type) for field in fields] == [
        (1, WireType.VARINT),
        (2, WireType.FIXED64),
        (3, WireType.LENGTH_DELIMITED),
        (1023, WireType.GROUP_START),
        (4, WireType.FIXED32),
    ]
    assert fields[2].payload == fields[2].end - 2
    assert fields[-1].end == len(EVERY_WIRE_TYPE)


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("a tag without payload", b"\x08"),
        ("a torn varint", b"\x08\x96"),
        ("an endless varint", b"\x08" + b"\xff" * 11),
        ("a torn fixed64", b"\x11" + bytes(7)),
        ("a torn fixed32", b"\x25" + bytes(3)),
        ("a length beyond the end", b"\x1a\x03hi"),
        ("a group that does not end", b"\xfb\x3f\x08\x01"),
        ("a group that ends as another", b"\xfb\x3f\x0c"),
        ("a group's end alone", b"\x0c"),
        ("a wire type that is none", b"\x0e"),
    ],
)
def test_broken_bytes_are_told(defect, message):
    with pytest.raises(ValueError, match=r"."):
        list(top_level_fields(message))


def test_replacing_touches_nothing_else():
    assert splice(EVERY_WIRE_TYPE, {(3, 0): b"longer"}) == EVERY_WIRE_TYPE.replace(b"\x1a\x02hi", b"\x1a\x06longer")


def test_dropping_counts_occurrences_of_its_own_field():
    message = b"\x1a\x01a\x22\x01b\x18\x07\x1a\x01c\x1a\x01d"  # the varint of field 3 is no occurrence
    assert splice(message, {(3, 1): None}) == b"\x1a\x01a\x22\x01b\x18\x07\x1a\x01d"


def test_an_edit_without_its_field_is_told():
    with pytest.raises(ValueError, match="no such field"):
        splice(EVERY_WIRE_TYPE, {(3, 1): None})


@given(st.lists(st.binary(max_size=200), max_size=6), st.binary(max_size=200), st.data())
def test_splicing_does_what_editing_the_parsed_message_does(contents, new, data):
    message = pb.ModelInferResponse(model_name="m", id="7", raw_output_contents=contents)
    place = data.draw(st.integers(0, max(len(contents) - 1, 0)))
    edits = {(6, place): new} if contents else {}
    spliced = splice(message.SerializeToString(), edits)
    if contents:
        message.raw_output_contents[place] = new
    assert spliced == message.SerializeToString()


@given(st.binary(max_size=60))
def test_what_protobuf_parses_is_walked_to_its_end(message):
    try:
        pb.ModelInferResponse.FromString(message)
    except Exception:
        return
    assert splice(message, {}) == message
    assert sum(field.end - field.start for field in top_level_fields(message)) == len(message)
