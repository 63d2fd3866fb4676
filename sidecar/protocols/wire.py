"""Serialised protobuf messages as bytes: where the top-level fields lie, and how to replace or drop some.

What a message *means* is for the protobuf runtime to say; it has parsed the message before anything here
looks at it. This module only moves bytes, so that everything it does not name survives bit for bit:
unknown fields, their order, the order of map entries.

Source: Protocol Buffers, "Encoding".
"""

import enum
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias


class WireType(enum.IntEnum):
    """How a field's payload is laid out."""

    VARINT = 0
    FIXED64 = 1
    LENGTH_DELIMITED = 2
    GROUP_START = 3
    GROUP_END = 4
    FIXED32 = 5


class Field(NamedTuple):
    """One occurrence of a field. A tuple, for large messages have thousands, and other values take five times as long
    to make.

    Args:
        number: the field's number.
        wire_type: see :class:`WireType`.
        start: where its tag starts.
        payload: where its payload starts, after the tag and, where there is one, the length.
        end: one past its last byte.
        fields: how many it is made of: itself, and in a group those inside.
    """

    number: int
    wire_type: WireType
    start: int
    payload: int
    end: int
    fields: int = 1


MAX_GROUP_FIELDS: Final = 4096
"""In one group. Each is looked for one by one, which takes far longer than the protobuf runtime takes; no protocol here
has groups, so that they are unknown fields, if anything."""

_WIRE_TYPES: Final = {int(each): each for each in WireType}

_FIXED_SIZE: Final = {WireType.FIXED64: 8, WireType.FIXED32: 4, WireType.GROUP_END: 0}
"""Bytes of payload."""

Buffer: TypeAlias = bytes | memoryview

Edits: TypeAlias = Mapping[tuple[int, int], bytes | None]
"""(field number, how many-eth occurrence, from 0) -> its new payload, or None to drop it."""


def top_level_fields(message: Buffer) -> Iterator[Field]:
    """The fields of a message in their order.

    Raises:
        ValueError: the bytes are no protobuf message, or a group has too many fields.
    """
    at = 0
    while at < len(message):
        field = _field(message, at)
        if field.wire_type is WireType.GROUP_END:
            raise ValueError(f"group of field {field.number} ends at byte {at} without having started")
        yield field
        at = field.end


def splice(message: bytes, edits: Edits) -> bytes:
    """The message with some length-delimited fields replaced or dropped, all other bytes as they were.

    Raises:
        ValueError: the bytes are no protobuf message, or an edit names an occurrence that is not there.
    """
    pending = dict(edits)
    occurrences: dict[int, int] = {}
    pieces: list[bytes] = []
    for field in top_level_fields(message):
        if field.wire_type is WireType.LENGTH_DELIMITED:
            key = (field.number, occurrences.get(field.number, 0))
            occurrences[field.number] = key[1] + 1
            if key in pending:
                pieces.append(_length_delimited(field.number, pending.pop(key)))
                continue
        pieces.append(message[field.start : field.end])
    if pending:
        raise ValueError(f"no such field occurrences: {sorted(pending)}")
    return b"".join(pieces)


def _length_delimited(number: int, payload: bytes | None) -> bytes:
    if payload is None:
        return b""
    return _encode_varint(number << 3 | WireType.LENGTH_DELIMITED) + _encode_varint(len(payload)) + payload


def _field(message: Buffer, start: int) -> Field:
    tag, at = _varint(message, start)
    number, wire_type = tag >> 3, _wire_type(tag)
    payload, count = at, 1
    if wire_type is WireType.LENGTH_DELIMITED:
        length, payload = _varint(message, at)
        end = payload + length
    elif wire_type is WireType.VARINT:
        _, end = _varint(message, at)
    elif wire_type is WireType.GROUP_START:
        end, inside = _end_of_group(message, at, number)
        count += inside
    else:
        end = at + _FIXED_SIZE[wire_type]
    if end > len(message):
        raise ValueError(f"field {number} at byte {start} ends at {end}, the message at {len(message)}")
    return Field(number, wire_type, start, payload, end, count)


def _wire_type(tag: int) -> WireType:
    found = _WIRE_TYPES.get(tag & 7)
    if found is None:
        raise ValueError(f"{tag & 7} is no wire type (tag {tag})")
    return found


def _end_of_group(message: Buffer, at: int, number: int) -> tuple[int, int]:
    """Where a group ends, and how many fields are in it; groups inside count as fields, and so do their fields."""
    open_groups, count = [number], 0
    while open_groups:
        if count > MAX_GROUP_FIELDS:
            raise ValueError(f"more than {MAX_GROUP_FIELDS} fields in the group of field {number}")
        tag, after_tag = _varint(message, at)
        count += tag & 7 != WireType.GROUP_END
        if tag & 7 == WireType.GROUP_START:
            open_groups.append(tag >> 3)
            at = after_tag
            continue
        field = _field(message, at)
        if field.wire_type is WireType.GROUP_END and field.number != open_groups.pop():
            raise ValueError(f"group of field {field.number} ends at byte {at} without having started")
        at = field.end
    return at, count


def _varint(message: Buffer, at: int) -> tuple[int, int]:
    if at < len(message) and message[at] < 0x80:  # nearly all
        return message[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError(f"the message ends at byte {at}, inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number longer than ten bytes ends at byte {at}")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
