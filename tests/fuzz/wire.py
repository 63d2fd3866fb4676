"""Protobuf's wire format, read a second time: nothing here comes from the product.

The mutators take messages apart with it and put them together again, changed; the referees compare with it which
bytes of a message survived.

Source: Protocol Buffers, "Encoding".
"""

import dataclasses
from collections.abc import Sequence

from google.protobuf.descriptor import Descriptor

VARINT, FIXED64, DELIMITED, GROUP, END_GROUP, FIXED32 = range(6)
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_DEPTH = 20


@dataclasses.dataclass(frozen=True)
class Span:
    """Where one occurrence of a field lies: all of it, and its payload."""

    number: int
    wire_type: int
    start: int
    payload: int
    end: int


@dataclasses.dataclass
class Field:
    """One occurrence of a field, to be changed at will.

    Args:
        payload: an integer (VARINT), fields (a submessage or a group), else bytes.
        padding: bytes more than needed in its tag, its length and its number.
    """

    number: int
    wire_type: int
    payload: "int | bytes | list[Field]"
    padding: int = 0


def spans(data: bytes) -> list[Span]:
    """The top-level fields in their order.

    Raises:
        ValueError: the bytes are no message.
    """
    found, at = [], 0
    while at < len(data):
        found.append(_span(data, at, 0))
        at = found[-1].end
    return found


def _span(data: bytes, start: int, depth: int) -> Span:
    tag, payload = read_varint(data, start)
    number, wire_type = tag >> 3, tag & 7
    if not number or depth > 200:
        raise ValueError("no field number, or too deep")
    end = payload
    if wire_type == VARINT:
        _, end = read_varint(data, payload)
    elif wire_type == DELIMITED:
        size, payload = read_varint(data, payload)
        end = payload + size
    elif wire_type == GROUP:
        end = _group_end(data, payload, number, depth)
    elif wire_type in FIXED_BYTES:
        end = payload + FIXED_BYTES[wire_type]
    else:
        raise ValueError(f"wire type {wire_type}")
    if end > len(data):
        raise ValueError("cut off")
    return Span(number, wire_type, start, payload, end)


def _group_end(data: bytes, at: int, number: int, depth: int) -> int:
    while True:
        tag, after = read_varint(data, at)
        if tag == number << 3 | END_GROUP:
            return after
        at = _span(data, at, depth + 1).end


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where it ends."""
    value = 0
    for index in range(10):
        byte = data[at + index : at + index + 1]
        if not byte:
            raise ValueError("cut off in a number")
        value |= (byte[0] & 0x7F) << 7 * index
        if byte[0] < 0x80:
            return value & (1 << 64) - 1, at + index + 1
    raise ValueError("a number of more than ten bytes")


def varint(value: int, padding: int = 0) -> bytes:
    """A number, with bytes more than it needs where ``padding`` says so; ten at most."""
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F)
        value >>= 7
    digits += [value, *[0] * min(padding, 9 - len(digits))]
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


def read(data: bytes, schema: Descriptor | None, depth: int = 0) -> list[Field]:
    """A message's fields, submessages that the schema knows taken apart too.

    Raises:
        ValueError: the bytes are no message.
    """
    return [_field(data, span, schema, depth) for span in spans(data)]


def _field(data: bytes, span: Span, schema: Descriptor | None, depth: int) -> Field:
    content = data[span.payload : span.end]
    if span.wire_type == VARINT:
        return Field(span.number, VARINT, read_varint(data, span.payload)[0])
    if span.wire_type == GROUP:
        return Field(span.number, GROUP, read(content[: -len(varint(span.number << 3))], None, depth + 1))
    if span.wire_type == DELIMITED and (inner := submessage(schema, span.number)) and depth < MAX_DEPTH:
        try:
            return Field(span.number, DELIMITED, read(content, inner, depth + 1))
        except ValueError:
            pass
    return Field(span.number, span.wire_type, content)


def submessage(schema: Descriptor | None, number: int) -> Descriptor | None:
    """The type of the submessage in this field, if it is one."""
    described = schema.fields_by_number.get(number) if schema else None
    return described.message_type if described else None


def write(fields: Sequence[Field]) -> bytes:
    """The message's bytes."""
    return b"".join(map(_written, fields))


def _written(field: Field) -> bytes:
    tag = varint(field.number << 3 | field.wire_type, min(field.padding, 4))
    match field.payload:
        case int(value):
            return tag + varint(value, field.padding)
        case list(fields):
            content = write(fields)
        case content:
            pass
    if field.wire_type == GROUP:
        return tag + content + varint(field.number << 3 | END_GROUP)
    return tag + (varint(len(content), min(field.padding, 4)) if field.wire_type == DELIMITED else b"") + content
