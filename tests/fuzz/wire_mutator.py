"""Changes to protobuf messages on the wire: what hides one meaning from a reader and shows it to another."""

import dataclasses
import random
import struct
from collections.abc import Callable, Iterable, Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message as ProtobufMessage

from tests.fuzz.referee import parsed
from tests.fuzz.wire import DELIMITED, FIXED32, FIXED64, GROUP, VARINT, Field, read, submessage, varint, write

WORDS = [
    *(
        b"x",
        b"y",
        b"z",
        b"note",
        b"guarded",
        b"other",
        b"h",
        b"b",
        b"FP32",
        b"FP64",
        b"FP16",
        b"BF16",
        b"BYTES",
        b"INT64",
    ),
    *(b"shared_memory_region", b"shared_memory_offset", b"shared_memory_byte_size", b"classification", b"sequence_id"),
    *(
        b"triton_final_response",
        b"triton_enable_empty_final_response",
        b"binary_data_output",
        b"",
        b"\xff",
        b"\xc3\xa9",
    ),
]
NUMBERS = [0, 1, 2, 3, 4, 7, 8, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
FLOATS = [
    0.0,
    -0.0,
    0.25,
    0.75,
    1.0,
    1.5,
    2.5,
    4.5,
    8.25,
    8.75,
    10.0,
    3.0,
    -3.0,
    float("nan"),
    float("inf"),
    -float("inf"),
]
FLOATS += [1.0000001192092896, 1e-45, 3.4e38, 1e300, 0.1]

Message = list[Field]


def messages(type_: type[ProtobufMessage], contents: Iterable[bytes]) -> list[bytes]:
    """Those of the byte strings that are messages of the type, each once."""
    return list(dict.fromkeys(content for content in contents if content and parsed(type_, content) is not None))


def mutated(data: bytes, schema: Descriptor, donors: Sequence[bytes], rng: random.Random) -> bytes:
    """The message after one to four changes; bytes that are no message come back as a donor does."""
    try:
        message = read(data, schema)
    except ValueError:
        message = read(rng.choice(donors), schema)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        part, type_ = _some_part(message, schema, rng)
        rng.choice(_CHANGES)(part, type_, donors, rng)
    return write(message)


def _some_part(message: Message, schema: Descriptor | None, rng: random.Random) -> tuple[Message, Descriptor | None]:
    """The message, or any submessage, however deep."""
    parts: list[tuple[Message, Descriptor | None]] = [(message, schema)]
    for part, type_ in parts:
        parts += [(f.payload, submessage(type_, f.number)) for f in part if isinstance(f.payload, list)]
    return rng.choice(parts)


def _copied(field: Field) -> Field:
    payload = [_copied(inner) for inner in field.payload] if isinstance(field.payload, list) else field.payload
    return dataclasses.replace(field, payload=payload)


def _repeat(part: Message, _type, _donors, rng: random.Random) -> None:
    if part:
        part.insert(rng.randint(0, len(part)), _copied(rng.choice(part)))


def _drop(part: Message, _type, _donors, rng: random.Random) -> None:
    if part:
        part.pop(rng.randrange(len(part)))


def _move(part: Message, _type, _donors, rng: random.Random) -> None:
    if part:
        part.insert(rng.randint(0, len(part) - 1), part.pop(rng.randrange(len(part))))


def _split(part: Message, _type, _donors, rng: random.Random) -> None:
    """A submessage in two pieces, which protobuf merges; a packed list in two, which it joins."""
    places = [index for index, field in enumerate(part) if field.wire_type == DELIMITED and field.payload]
    if places:
        index = rng.choice(places)
        field = part[index]
        cut = rng.randint(0, len(field.payload))
        part[index : index + 1] = [
            Field(field.number, DELIMITED, each) for each in (field.payload[:cut], field.payload[cut:])
        ]


def _join(part: Message, _type, _donors, rng: random.Random) -> None:
    places = [i for i in range(len(part) - 1) if type(part[i].payload) is type(part[i + 1].payload) is list]
    if places:
        index = rng.choice(places)
        part[index : index + 2] = [Field(part[index].number, DELIMITED, part[index].payload + part[index + 1].payload)]


def _unpack(part: Message, type_: Descriptor | None, _donors, rng: random.Random) -> None:
    """A packed list as single fields, or as one of them and the rest."""
    for index, field in enumerate(part):
        described = type_.fields_by_number.get(field.number) if type_ else None
        size = _packed_size(described)
        if size is None or not isinstance(field.payload, bytes) or len(field.payload) < max(size, 1):
            continue
        if size:
            kind = FIXED32 if size == 4 else FIXED64
            singles = [
                Field(field.number, kind, field.payload[at : at + size])
                for at in range(0, len(field.payload) - size + 1, size)
            ]
        else:
            singles = [Field(field.number, VARINT, byte & 0x7F) for byte in field.payload]
        part[index : index + 1] = (
            singles if rng.random() < 0.7 else [*singles[:1], Field(field.number, DELIMITED, b""), *singles[1:]]
        )
        return


def _packed_size(described: FieldDescriptor | None) -> int | None:
    """Bytes of an element, 0 for varints; None for what cannot be packed."""
    if described is None or not described.is_packed:
        return None
    return {FieldDescriptor.TYPE_FLOAT: 4, FieldDescriptor.TYPE_DOUBLE: 8}.get(described.type, 0)


def _unknown(part: Message, type_: Descriptor | None, _donors, rng: random.Random) -> None:
    """A field that the schema does not know, or one that it knows with another wire type."""
    known = list(type_.fields_by_number) if type_ else [1]
    number = rng.choice([rng.choice(known), 1, 15, 16, 1022, 2**29 - 1])
    kind = rng.choice((VARINT, FIXED64, FIXED32, DELIMITED, GROUP))
    inner = [_copied(rng.choice(part))] if part and rng.random() < 0.6 else []
    payload = {
        VARINT: rng.choice(NUMBERS),
        FIXED64: rng.randbytes(8),
        FIXED32: rng.randbytes(4),
        DELIMITED: rng.choice(WORDS),
        GROUP: inner,
    }[kind]
    if kind == GROUP and rng.random() < 0.2:
        for _ in range(rng.choice((2, 30, 98, 99, 100, 101, 150))):
            payload = [Field(number, GROUP, payload)]
    part.insert(rng.randint(0, len(part)), Field(number, kind, payload))


def _pad(part: Message, _type, _donors, rng: random.Random) -> None:
    if part:
        rng.choice(part).padding = rng.choice((1, 2, 4, 9))


def _value(part: Message, _type, _donors, rng: random.Random) -> None:
    if not part:
        return
    field = rng.choice(part)
    match field.payload:
        case int():
            field.payload = rng.choice(NUMBERS)
        case bytes(content) if field.wire_type == DELIMITED:
            field.payload = _content(content, rng)
        case bytes(content):
            value = rng.choice(FLOATS)
            field.payload = struct.pack("<d", value) if len(content) == 8 else struct.pack("<f", min(value, 3e38))


def _content(content: bytes, rng: random.Random) -> bytes:
    """Another word; other numbers in its place; longer, shorter."""
    match rng.randrange(6):
        case 0:
            return rng.choice(WORDS)
        case 1 | 2 if content:
            value, size = rng.choice(FLOATS), rng.choice((4, 8))
            at = rng.randrange(0, len(content), size)
            piece = struct.pack("<d", value) if size == 8 else struct.pack("<f", min(value, 3e38))
            return (content[:at] + piece + content[at + size :])[: max(len(content), size)]
        case 3:
            return content + content[-rng.choice((1, 4, 8)) :]
        case 4:
            return content[: rng.randint(0, len(content))]
    at = rng.randint(0, len(content))
    return content[:at] + rng.choice((b"", b"\0", varint(rng.choice(NUMBERS)), rng.randbytes(2))) + content[at + 1 :]


def _donated(part: Message, type_: Descriptor | None, donors: Sequence[bytes], rng: random.Random) -> None:
    """A field out of another message."""
    if type_ is not None:
        try:
            fields = read(rng.choice(donors), type_)
        except ValueError:
            return
        if fields:
            part.insert(rng.randint(0, len(part)), rng.choice(fields))


_CHANGES: list[Callable[[Message, Descriptor | None, Sequence[bytes], random.Random], None]] = [
    *(_repeat, _drop, _move, _split, _split, _join, _unpack, _unknown, _pad, _value, _value, _value, _donated)
]
