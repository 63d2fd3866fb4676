"""TorchServe's Predictions call, message bytes by hand: what a client sends, and what it gets.

The method is `/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions`. In a request, field 1 is the
model's name, field 2 its version (absent: the default version), field 3 a map from key to bytes, that is, one
submessage for each entry with the key in field 1 and the value in field 2. In an answer, field 1 is the prediction.
So asking `m` with the key `data` and the value `[1]` is, and a prediction `{}` comes back as

    0a 01 6d   1a 0b   0a 04 64 61 74 61   12 03 5b 31 5d            0a 02 7b 7d

TorchServe hands the value to the handler as it came (a bytearray, with no content type: gRPC has none), and sends back
what the handler returns: bytes as they are, text in UTF-8, all else by `json.dumps(value, indent=2)`. Therefore:

    json   the request's value is whatever text the handler's own JSON reader takes (Python's takes NaN and Infinity);
           the prediction is indented JSON, float32 numbers printed as the doubles equal to them (1.100000023841858)
    npy    both are .npy files, of version 1.0 as numpy writes them: 6 bytes of magic, 2 of version, 2 of header length,
           a header such as {'descr': '<f4', 'fortran_order': False, 'shape': (2, 5), } padded with spaces and ended by
           a newline so that the data starts at a multiple of 64, then the data
    raw    both are the rows' float32 values, little-endian, row after row; nothing says how many rows there are
"""

import dataclasses

import grpc

METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"

_MODEL_NAME, _MODEL_VERSION, _INPUT = 1, 2, 3
_KEY, _VALUE = 1, 2
_PREDICTION = 1
_LENGTH_DELIMITED = 2


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A client of one server; calls give the prediction's bytes or raise ``grpc.RpcError``."""

    channel: grpc.Channel

    def ask(self, model: str, value: bytes, *, key: str = "data", version: str = "") -> bytes:
        """One prediction."""
        answer = self.channel.unary_unary(METHOD)(request_bytes(model, {key: value}, version), timeout=30)
        return prediction(answer)


def request_bytes(model: str, inputs: dict[str, bytes], version: str = "") -> bytes:
    """A PredictionsRequest as protobuf would write it: fields in order, an empty version left out."""
    entries = [_field(_KEY, key.encode()) + _field(_VALUE, value) for key, value in inputs.items()]
    named = _field(_MODEL_NAME, model.encode()) + (_field(_MODEL_VERSION, version.encode()) if version else b"")
    return named + b"".join(_field(_INPUT, entry) for entry in entries)


def prediction(answer: bytes) -> bytes:
    """What a PredictionResponse with no other field carries."""
    assert answer[:1] == _tag(_PREDICTION), f"not the prediction's field: {answer[:16].hex()}"
    length, start = _read_varint(answer, 1)
    assert start + length == len(answer), "something follows the prediction"
    return answer[start:]


def _field(number: int, content: bytes) -> bytes:
    return _tag(number) + _varint(len(content)) + content


def _tag(number: int) -> bytes:
    return bytes([number << 3 | _LENGTH_DELIMITED])


def _varint(value: int) -> bytes:
    low = b""
    while value > 0x7F:
        low += bytes([value & 0x7F | 0x80])
        value >>= 7
    return low + bytes([value])


def _read_varint(content: bytes, start: int) -> tuple[int, int]:
    value = 0
    for shift, at in zip(range(0, 64, 7), range(start, len(content)), strict=False):
        value |= (content[at] & 0x7F) << shift
        if content[at] < 0x80:
            return value, at + 1
    raise ValueError("the length does not end")
