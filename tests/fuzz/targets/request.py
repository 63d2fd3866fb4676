"""The codec of ModelInfer requests: it reads what everybody else reads, and what is forwarded means that too."""

import random

import numpy as np

from sidecar.errors import CallerError
from sidecar.protocols.open_inference.request import parse_request, read_request
from tests.fuzz import referee
from tests.fuzz.referee import pb
from tests.fuzz.target import Target, require
from tests.fuzz.targets.signatures import LIMIT_ROWS, SIGNATURES, requests, wire_shape
from tests.fuzz.wire import DELIMITED, spans
from tests.fuzz.wire_mutator import mutated

INPUTS, OUTPUTS = 5, 6
_HIDING = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
SEEDS = requests()
_DONORS = [seed[1:] for seed in SEEDS]


def check(data: bytes, read=read_request) -> None:
    signature, content = SIGNATURES[data[0] % len(SIGNATURES) if data else 0], data[1:]
    try:
        parsed = parse_request(content)
        gated = read(parsed, signature, LIMIT_ROWS)
    except CallerError:
        return
    message = referee.parsed(pb.ModelInferRequest, content)
    require(message is not None, "accepted what is no message to others")
    require(parsed.model_name == message.model_name, "another model name")
    _check_inputs(message, signature, gated.inputs)
    _check_nothing_hidden(content, message, signature)
    _check_forwarded(message, content, signature, gated)


def _check_inputs(message, signature, inputs) -> None:
    columns = []
    for spec in signature.inputs:
        tensor = referee.tensor(message.inputs, message.raw_input_contents, spec.name)
        require(tensor is not None, f"accepted an input {spec.name} that others cannot decode")
        require(tensor.datatype == spec.datatype, f"{spec.name}: accepted as {tensor.datatype}")
        require(tensor.shape == wire_shape(spec, signature, len(inputs)), f"{spec.name}: accepted shape {tensor.shape}")
        columns.append(tensor.values.reshape(len(inputs), -1))
    expected = np.concatenate(columns, axis=1)
    require(referee.same(inputs, expected), f"decoded {inputs.tolist()}, others decode {expected.tolist()}")
    require(bool(np.isfinite(expected).all()) and 1 <= len(inputs) <= LIMIT_ROWS, "accepted what must be refused")


def _check_nothing_hidden(content: bytes, message, signature) -> None:
    for field, parameters, tensors in ((INPUTS, 4, message.inputs), (OUTPUTS, 2, message.outputs)):
        pieces = [s for s in spans(content) if (s.number, s.wire_type) == (field, DELIMITED)]
        for span, tensor in zip(pieces, tensors, strict=True):
            keys = referee.parameter_keys(content[span.payload : span.end], parameters)
            require(not keys & set(_HIDING), f"{tensor.name} in shared memory was accepted")
            require(keys == set(tensor.parameters), f"others read the parameters {keys} of {tensor.name}")
    gated = [spec.name for spec in signature.outputs]
    asked = [tensor.name for tensor in message.outputs if tensor.name in gated]
    require(len(asked) == len(set(asked)), "a gated output asked for twice was accepted")
    classified = [t.name for t in message.outputs if t.name in gated and "classification" in t.parameters]
    require(not classified, f"classification of {classified} was accepted")


def _check_forwarded(message, content: bytes, signature, gated) -> None:
    require(gated.forward.startswith(content), "the client's bytes are not what is forwarded")
    forwarded = pb.ModelInferRequest.FromString(gated.forward)
    asked = {tensor.name for tensor in message.outputs}
    wanted = {spec.name for spec in signature.outputs} - asked if asked or message.outputs else set()
    require(gated.added_outputs == wanted, f"added {set(gated.added_outputs)}, needed {wanted}")
    added = [tensor.name for tensor in forwarded.outputs[len(message.outputs) :]]
    require(sorted(added) == sorted(wanted), f"asked for {added} besides, needed {wanted}")
    del forwarded.outputs[len(message.outputs) :]
    before, after = (each.SerializeToString(deterministic=True) for each in (message, forwarded))
    require(before == after, "something besides requested outputs changed on the way")


def mutate(data: bytes, rng: random.Random) -> bytes:
    selector = data[:1] if data and rng.random() < 0.95 else bytes([rng.randrange(len(SIGNATURES))])
    return selector + mutated(data[1:], pb.ModelInferRequest.DESCRIPTOR, _DONORS, rng)


TARGET = Target("request", check, mutate, SEEDS)
