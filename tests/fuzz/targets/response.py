"""The codec of ModelInfer responses: read as others read it; replaced and dropped without touching anything else."""

import dataclasses
import random

import numpy as np

from sidecar.errors import UpstreamError
from sidecar.protocols.open_inference.response import drop_outputs, read_response, replace_outputs
from sidecar.tensors import ModelSignature
from tests.fuzz import referee
from tests.fuzz.referee import pb
from tests.fuzz.target import Target, require
from tests.fuzz.targets.signatures import SIGNATURES, responses, wire_shape
from tests.fuzz.wire import DELIMITED, spans
from tests.fuzz.wire_mutator import mutated

OUTPUTS, RAW = 5, 6
DROPPED = (frozenset({"y"}), frozenset({"note", "z"}), frozenset({"y", "z", "x"}))
SEEDS = responses()
_DONORS = [seed[2:] for seed in SEEDS]


@dataclasses.dataclass(frozen=True)
class Codec:
    """What is tried, so that a defective one can be tried too."""

    read = staticmethod(read_response)
    replace = staticmethod(replace_outputs)
    drop = staticmethod(drop_outputs)


def check(data: bytes, codec: type[Codec] = Codec) -> None:
    head, content = data[:2].ljust(2, b"\0"), data[2:]
    signature, rows = SIGNATURES[head[0] % len(SIGNATURES)], 1 + (head[1] - 1) % 4
    message = referee.parsed(pb.ModelInferResponse, content)
    for names in DROPPED:
        _check_dropped(content, message, names, codec)
    try:
        received = codec.read(content, signature, rows)
    except UpstreamError:
        return
    require(message is not None, "accepted what is no message to others")
    decoded = _decoded(message, signature, rows)
    require(referee.same(received.outputs, decoded), f"decoded {received.outputs.tolist()}, others {decoded.tolist()}")
    for step in (1, 2, 3):
        _check_replaced(received, message, signature, step, codec)


def _decoded(message, signature: ModelSignature, rows: int) -> np.ndarray:
    columns = []
    for spec in signature.outputs:
        tensor = referee.tensor(message.outputs, message.raw_output_contents, spec.name)
        require(tensor is not None, f"accepted an output {spec.name} that others cannot decode")
        require(tensor.datatype == spec.datatype, f"{spec.name}: accepted as {tensor.datatype}")
        require(tensor.shape == wire_shape(spec, signature, rows), f"{spec.name}: accepted shape {tensor.shape}")
        columns.append(tensor.values.reshape(rows, -1))
    return np.concatenate(columns, axis=1)


def _check_replaced(received, message, signature: ModelSignature, step: int, codec: type[Codec]) -> None:
    wanted = received.outputs.copy()
    wanted.reshape(-1)[::step] = 2.0
    replaced = codec.replace(received, wanted, signature)
    after = pb.ModelInferResponse.FromString(replaced)
    require(
        referee.same(_decoded(after, signature, len(wanted)), wanted), "the replaced values are not what others decode"
    )
    if (wanted == received.outputs).all():
        require(replaced == received.content, "nothing changed, and the bytes did")
    gated = {spec.name for spec in signature.outputs}
    require(
        _pieces(replaced, message, gated) == _pieces(received.content, message, gated), "something else changed too"
    )
    require(_blanked(after, gated) == _blanked(message, gated), "something else changed its meaning too")


def _pieces(content: bytes, message, gated: set[str]) -> list[bytes | int]:
    """Every top-level field's very bytes; of the contents of gated outputs, where they stand, only that they do."""
    places = {index for index, tensor in enumerate(message.outputs) if tensor.name in gated}
    carrier = RAW if message.raw_output_contents else OUTPUTS
    pieces: list[bytes | int] = []
    seen = 0
    for span in spans(content):
        is_gated = False
        if (span.number, span.wire_type) == (carrier, DELIMITED):
            is_gated, seen = seen in places, seen + 1
        pieces.append(carrier if is_gated else content[span.start : span.end])
    return pieces


def _blanked(message, gated: set[str]) -> bytes:
    """The message as bytes, gated values blanked."""
    copy = pb.ModelInferResponse()
    copy.CopyFrom(message)
    for index, tensor in enumerate(copy.outputs):
        if tensor.name in gated:
            if copy.raw_output_contents:
                copy.raw_output_contents[index] = b""
            for field in ("fp32_contents", "fp64_contents"):
                values = getattr(tensor.contents, field)
                if values:
                    values[:] = [0.0] * len(values)
    return copy.SerializeToString(deterministic=True)


def _check_dropped(content: bytes, message, names: frozenset[str], codec: type[Codec]) -> None:
    try:
        cut = codec.drop(content, names)
    except UpstreamError:
        return
    require(message is not None, "dropped from what is no message to others")
    expected = pb.ModelInferResponse()
    expected.CopyFrom(message)
    for index in reversed(range(len(expected.outputs))):
        if expected.outputs[index].name in names:
            del expected.outputs[index]
            if expected.raw_output_contents:
                del expected.raw_output_contents[index]
    got = pb.ModelInferResponse.FromString(cut)
    require(
        got.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True),
        f"dropping {sorted(names)} changed something else",
    )
    before = [content[span.start : span.end] for span in spans(content)]
    after = [cut[span.start : span.end] for span in spans(cut)]
    places = iter(before)
    require(all(piece in places for piece in after), f"dropping {sorted(names)} rewrote a field")


def mutate(data: bytes, rng: random.Random) -> bytes:
    head = data[:2].ljust(2, b"\0") if rng.random() < 0.95 else bytes([rng.randrange(3), rng.randrange(4)])
    return head + mutated(data[2:], pb.ModelInferResponse.DESCRIPTOR, _DONORS, rng)


TARGET = Target("response", check, mutate, SEEDS)
