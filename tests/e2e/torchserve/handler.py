"""A TorchServe handler in the module-level form: a dense network in torch, behind one of four payload formats.

It runs in TorchServe's environment, not in ours. `handler: {format: ...}` in the model's configuration chooses:

    json            {"instances": [[x, ...], ...]}    ->  {"predictions": [[y, ...], ...], "model": name}
    npy             a .npy file                       ->  a .npy file
    raw             little-endian float32             ->  the same, in C order
    open_inference  what TorchServe makes of a ModelInfer request, tensor `input`  ->  one with the tensor `scores`

Everything is float32 inside: numbers of a JSON payload are rounded to it.
"""

import io
import json
import os

import numpy as np
import torch

_model = None


def handle(requests, context):
    """TorchServe calls it once with None, to load the model, then with a batch of requests."""
    global _model  # noqa: PLW0603 (the state of a module-level handler has no other place)
    if requests is None:
        _model = _load(context.system_properties["model_dir"])
        return None
    answer = _FORMATS[context.model_yaml_config["handler"]["format"]]
    return [answer(request, context.model_name) for request in requests]


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


def _json(request, name):
    rows = json.loads(bytes(request["data"]))["instances"]
    return {"predictions": _forward(rows).tolist(), "model": name}


def _npy(request, _name):
    file = io.BytesIO()
    np.save(file, _forward(np.load(io.BytesIO(request["data"]), allow_pickle=False)), allow_pickle=False)
    return file.getvalue()


def _raw(request, _name):
    rows = np.frombuffer(request["data"], "<f4").reshape(-1, _model[0][0].shape[1])
    return _forward(rows).astype("<f4").tobytes()


def _open_inference(request, name):
    (tensor,) = request["body"]["inputs"]
    scores = _forward(np.array(tensor["data"], np.float32).reshape(tensor["shape"]))
    output = {"name": "scores", "datatype": "FP32", "shape": list(scores.shape), "data": scores.ravel().tolist()}
    # An answer without an id makes TorchServe end the worker.
    answer_id = request["body"].get("id", "")
    return {"id": answer_id, "model_name": name, "model_version": "1.0", "outputs": [output]}


_FORMATS = {"json": _json, "npy": _npy, "raw": _raw, "open_inference": _open_inference}
