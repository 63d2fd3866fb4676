"""Moving bytes of serialised messages."""

import pytest
from hypothesis import given, settings
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
    "message",
    [
        pytest.param(b"\x08", id="a tag without payload"),
        pytest.param(b"\x08\x96", id="a torn varint"),
        pytest.param(b"\x08" + b"\xff" * 11, id="an endless varint"),
        pytest.param(b"\x11" + bytes(7), id="a torn fixed64"),
        pytest.param(b"\x25" + bytes(3), id="a torn fixed32"),
        pytest.param(b"\x1a\x03hi", id="a length beyond the end"),
        pytest.param(b"\xfb\x3f\x08\x01", id="a group that does not end"),
        pytest.param(b"\xfb\x3f\x0c", id="a group that ends as another"),
        pytest.param(b"\x0c", id="a group's end alone"),
        pytest.param(b"\x0e", id="a wire type that is none"),
    ],
)
def test_broken_bytes_are_told(message):
    with pytest.raises(ValueError, match=r"."):
        list(top_level_fields(message))


def test_the_fields_of_a_group_are_counted():
    counts = {field.number: field.fields for field in top_level_fields(EVERY_WIRE_TYPE)}
    assert counts == {1: 1, 2: 1, 3: 1, 1023: 3, 4: 1}


def test_a_group_has_a_limit_of_fields():
    within, beyond = (b"\xfb\x3f" + b"\x08\x01" * count + b"\xfc\x3f" for count in (4096, 4097))
    (field,) = top_level_fields(within)
    assert (field.fields, field.end) == (4097, len(within))
    with pytest.raises(ValueError, match="more than 4096 fields"):
        list(top_level_fields(beyond))


def test_replacing_touches_nothing_else():
    assert splice(EVERY_WIRE_TYPE, {(3, 0): b"longer"}) == EVERY_WIRE_TYPE.replace(b"\x1a\x02hi", b"\x1a\x06longer")


def test_a_long_payload_gets_a_long_length():
    message = pb.ModelInferResponse(raw_output_contents=[b"short"]).SerializeToString()
    replaced = splice(message, {(6, 0): bytes(70_000)})
    assert pb.ModelInferResponse.FromString(replaced).raw_output_contents[0] == bytes(70_000)


def test_dropping_counts_occurrences_of_its_own_field():
    message = b"\x1a\x01a\x22\x01b\x18\x07\x1a\x01c\x1a\x01d"  # the varint of field 3 is no occurrence
    assert splice(message, {(3, 1): None}) == b"\x1a\x01a\x22\x01b\x18\x07\x1a\x01d"


def test_an_edit_without_its_field_is_told():
    with pytest.raises(ValueError, match="no such field"):
        splice(EVERY_WIRE_TYPE, {(3, 1): None})


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=6), st.binary(max_size=200), st.data())
def test_splicing_does_what_editing_the_parsed_message_does(contents, new, data):
    message = pb.ModelInferResponse(model_name="m", id="7", raw_output_contents=contents)
    place = data.draw(st.integers(0, max(len(contents) - 1, 0)))
    edits = {(6, place): new} if contents else {}
    spliced = splice(message.SerializeToString(), edits)
    if contents:
        message.raw_output_contents[place] = new
    assert spliced == message.SerializeToString()


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_what_protobuf_parses_is_walked_to_its_end(message):
    try:
        pb.ModelInferResponse.FromString(message)
    except Exception:
        return
    assert splice(message, {}) == message
    assert sum(field.end - field.start for field in top_level_fields(message)) == len(message)
