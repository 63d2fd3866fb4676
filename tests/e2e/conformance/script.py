"""What a scripted model is told to answer: an Open Inference answer as names, datatypes, shapes and bytes.

Servers build their messages themselves, so a script says what an answer means and never how its bytes stand. Contents
are raw here; a server that answers in typed contents makes them of these.
"""

import base64
import dataclasses
import json
import math
import os
import shutil
import struct
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from sidecar.protocols.generated import open_inference_pb2 as pb
from tests.conformance.guarded_model import DTYPES, FIELDS

READER = Path(__file__).with_name("script_reader.py")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An output as a client reads it; ``raw`` in the protocol's raw form."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes

    def is_whole(self) -> bool:
        """Whether datatype and shape are such that the contents could be a tensor's at all."""
        if min(self.shape, default=0) < 0:
            return False
        if self.datatype == "BYTES":
            return len(_strings(self.raw)) == math.prod(self.shape)
        return self.datatype in DTYPES and len(self.raw) == math.prod(self.shape) * DTYPES[self.datatype].itemsize


def _strings(raw: bytes) -> list[bytes]:
    strings, at = [], 0
    while at + 4 <= len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        strings.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return strings if at == len(raw) else []


def tensors(answer: bytes) -> list[Tensor] | None:
    """The outputs in order; None where the answer is no message or its contents are in no one form."""
    try:
        message = pb.ModelInferResponse.FromString(answer)
    except DecodeError:
        return None
    typed = [tensor for tensor in message.outputs if tensor.contents.ListFields()]
    if message.raw_output_contents:
        fits = not typed and len(message.raw_output_contents) == len(message.outputs)
        contents = list(message.raw_output_contents) if fits else None
    else:
        contents = _typed(message)
    if contents is None:
        return None
    pairs = zip(message.outputs, contents, strict=True)
    return [Tensor(each.name, each.datatype, tuple(each.shape), raw) for each, raw in pairs]


def _typed(message: pb.ModelInferResponse) -> list[bytes] | None:
    contents = []
    for tensor in message.outputs:
        fields = [field.name for field, _ in tensor.contents.ListFields()]
        expected = "bytes_contents" if tensor.datatype == "BYTES" else FIELDS.get(tensor.datatype)
        if expected is None or any(name != expected for name in fields):
            return None
        try:
            contents.append(_raw(getattr(tensor.contents, expected), tensor.datatype))
        except OverflowError:
            return None
    return contents


def _raw(values, datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return np.array(list(values), DTYPES[datatype]).tobytes()


@dataclasses.dataclass(frozen=True)
class ScriptFolder:
    """The folder that the scripted models of one server share with the test."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> "ScriptFolder":
        """A folder with the reader in it, and nothing that was seen."""
        path.mkdir()
        shutil.copy2(READER, path)
        (path / "seen.jsonl").touch()
        return cls(path)

    def say(self, outputs: list[Tensor], error: dict | None = None, delay_seconds: float = 0.0) -> None:
        """From now on the models answer this."""
        stated = [dataclasses.asdict(each) | {"raw": base64.b64encode(each.raw).decode()} for each in outputs]
        script = {"outputs": stated, "error": error, "delay_seconds": delay_seconds}
        self._replace("script.json", json.dumps(script).encode())

    def say_prediction(self, content: bytes) -> None:
        """From now on TorchServe's handler answers this."""
        self._replace("prediction", content)
        self.say([])

    def _replace(self, name: str, content: bytes) -> None:
        partial = self.path / f"{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, self.path / name)

    def seen(self) -> list[bytes | None]:
        """What the models were asked with, in order: the bytes of tensor `x`, None where the server hides them."""
        lines = (self.path / "seen.jsonl").read_text().splitlines()
        return [None if line == "null" else bytes.fromhex(json.loads(line)) for line in lines]
