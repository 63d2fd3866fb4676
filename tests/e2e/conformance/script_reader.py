"""What a scripted model reads before it answers; it runs in the servers' environments, not in ours.

A test writes `script.json` beside this file before it asks. The model answers what stands there, whatever it was asked,
and adds a line to `seen.jsonl`: that it was asked, and with which bytes in tensor `x`.
"""

import base64
import json
import os
import time

import numpy as np

FOLDER = os.path.dirname(os.path.abspath(__file__))

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class Tensor:
    """One output: numbers as an array of its datatype, BYTES as an array of objects."""

    def __init__(self, stated):
        self.name, self.datatype, self.shape = stated["name"], stated["datatype"], stated["shape"]
        self.raw = base64.b64decode(stated["raw"])
        if self.datatype == "BYTES":
            self.array = np.array(_strings(self.raw), dtype=np.object_).reshape(self.shape)
        else:
            self.array = np.frombuffer(self.raw, DTYPES[self.datatype]).reshape(self.shape)


def _strings(raw):
    """BYTES: a length as uint32, little-endian, then the bytes; again and again."""
    strings, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        strings.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return strings


def perform(x):
    """The outputs to answer with, and the error to answer with instead, None or {"code", "message"}.

    Args:
        x: the bytes that tensor `x` came with, None if the server does not show them.
    """
    with open(os.path.join(FOLDER, "seen.jsonl"), "a", encoding="ascii") as seen:
        seen.write(json.dumps(None if x is None else x.hex()) + "\n")
    with open(os.path.join(FOLDER, "script.json"), encoding="ascii") as file:
        script = json.load(file)
    time.sleep(script["delay_seconds"])
    return [Tensor(stated) for stated in script["outputs"]], script["error"]


def text():
    """For TorchServe: the prediction's bytes."""
    perform(None)
    with open(os.path.join(FOLDER, "prediction"), "rb") as file:
        return file.read()
