"""A TorchServe handler in the module-level form: a dense network in torch, behind one of three payload formats.

It runs in TorchServe's environment, not in ours. `handler: {format: ...}` in the model's configuration chooses:

    json   {"instances": [[x, ...], ...]}  ->  {"predictions": [[y, ...], ...], "model": name}
    npy    a .npy file                     ->  a .npy file
    raw    little-endian float32           ->  the same, in C order

Everything is float32 inside: numbers of a JSON payload are rounded to it.
"""

import io
import json
import os

import numpy as np
import torch

INPUT_KEY = "data"

_model = None


def handle(requests, context):
    """TorchServe calls it once with None, to load the model, then with a batch of requests."""
    global _model  # noqa: PLW0603 (the state of a module-level handler has no other place)
    if requests is None:
        _model = _load(context.system_properties["model_dir"])
        return None
    read, write = _FORMATS[context.model_yaml_config["handler"]["format"]]
    return [write(_forward(read(request[INPUT_KEY])), context.model_name) for request in requests]


def _load(folder):
    torch.set_num_threads(1)
    with np.load(os.path.join(folder, "dense.npz")) as arrays:
        count = len(arrays["relu"])
        weights = [torch.from_numpy(arrays[f"weight_{index}"]) for index in range(count)]
        biases = [torch.from_numpy(arrays[f"bias_{index}"]) for index in range(count)]
        return list(zip(weights, biases, arrays["relu"].tolist(), strict=True))


def _forward(rows):
    hidden = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    with torch.inference_mode():
        for weight, bias, relu in _model:
            hidden = torch.nn.functional.linear(hidden, weight, bias)
            hidden = torch.relu(hidden) if relu else hidden
    return hidden.numpy()


def _read_json(payload):
    return np.array(json.loads(bytes(payload))["instances"], np.float32)


def _write_json(rows, name):
    return {"predictions": rows.tolist(), "model": name}


def _read_npy(payload):
    return np.load(io.BytesIO(payload), allow_pickle=False)


def _write_npy(rows, _name):
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    return file.getvalue()


def _read_raw(payload):
    return np.frombuffer(payload, "<f4").reshape(-1, _model[0][0].shape[1])


def _write_raw(rows, _name):
    return rows.astype("<f4").tobytes()


_FORMATS = {"json": (_read_json, _write_json), "npy": (_read_npy, _write_npy), "raw": (_read_raw, _write_raw)}
