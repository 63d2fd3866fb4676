"""Both functions of the request path, on hostile bytes from both sides.

No exception leaves them, and whatever answer leaves ``judge`` keeps every enforced property of every row in its domain,
as an exact judge that shares nothing with the product reads both messages; answers that keep them are not touched.
Where the native evaluation is built it decides the same, or hands over.
"""

import random

import numpy as np

from sidecar.config import ModelPolicy, Outside
from sidecar.gates.values import Mode
from sidecar.proxy.active_bundle import activate, active_models
from sidecar.proxy.events import Refusal
from sidecar.proxy.request_path import Judgement, admit, judge
from tests.conformance.cases import CASES
from tests.conformance.guarded_model import bundle_bytes
from tests.fuzz import framing, referee
from tests.fuzz.guarded_truth import ENFORCED, violations
from tests.fuzz.referee import pb
from tests.fuzz.target import Target, require
from tests.fuzz.wire_mutator import messages, mutated
from tests.native.comparing import Compared
from tests.transports import NATIVE_IS_BUILT

LIMIT_ROWS = 8
MAX_SEED_BYTES = 600
BUNDLES = tuple(
    activate(bundle_bytes(), mode=mode, policy=lambda _, kept=policy: kept)
    for mode, policy in (
        (None, ModelPolicy()),
        (Mode.SHADOW, ModelPolicy()),
        (None, ModelPolicy(outside=Outside.REFUSE)),
    )
)
MODELS = tuple(active_models([bundle], limit_rows=LIMIT_ROWS) for bundle in BUNDLES)
COMPARED = tuple(Compared(bundle, LIMIT_ROWS) for bundle in BUNDLES if NATIVE_IS_BUILT)
ENFORCING, SHADOW, REFUSING_OUTSIDE = range(3)
OUTPUTS = (("y", slice(0, 3), "FP32"), ("z", slice(3, 4), "FP64"))

_SMALL = [case for case in CASES if len(case.request) + len(case.answer) <= MAX_SEED_BYTES]
SEEDS = [framing.join(bytes([i % 3 if i % 4 == 0 else 0]), c.request, c.answer) for i, c in enumerate(_SMALL)]
_REQUESTS = messages(pb.ModelInferRequest, (case.request for case in _SMALL))
_ANSWERS = messages(pb.ModelInferResponse, (case.answer for case in _SMALL))


def check(data: bytes, judging=judge) -> None:
    selector, request, response = framing.split(data, 3)
    variant = selector[0] % len(MODELS) if selector else 0
    if COMPARED:
        COMPARED[variant].why_handed(request, response)
    admission = admit(request, (), MODELS[variant])
    if isinstance(admission, Refusal):
        return
    require(admission.forward.startswith(request), "the client's bytes are not what is forwarded")
    judgement = judging(admission.plan, response)
    if isinstance(judgement, Judgement) and isinstance(judgement.answer, bytes):
        _check_answer(variant, request, response, judgement.answer, admission.plan.added_outputs)


def _check_answer(variant: int, request: bytes, response: bytes, answer: bytes, added: frozenset[str]) -> None:
    if variant == SHADOW:
        require(answer == response or bool(added), "shadow properties changed an answer")
        return
    rows = _rows(request)
    if variant == REFUSING_OUTSIDE:
        require(all(any(each.contains(row) for each in ENFORCED) or 0 <= row[0] <= 1 for row in rows), "a row outside")
    if not any(stated.contains(row) for row in rows for stated in ENFORCED):
        return
    before, after = _outputs(response, len(rows), frozenset()), _outputs(answer, len(rows), added)
    broken = [violations(x, y) for x, y in zip(rows, before, strict=True)]
    if not any(broken) and not added:
        require(answer == response, "an answer that keeps its properties was changed")
    for x, old, new, bad in zip(rows, before, after, broken, strict=True):
        left = [each.name for each in ENFORCED if not _hidden(each.needs, added) and each.violated(x, new)]
        require(not left, f"the answer {new.tolist()} to {x.tolist()} violates {left}")
        if not bad:
            kept = referee.same(new[~_columns(added)], old[~_columns(added)])
            require(kept, f"a row that keeps its properties became {new.tolist()} from {old.tolist()}")


def _hidden(needs: tuple[int, ...], added: frozenset[str]) -> bool:
    """Whether the client does not get an output that is needed, so that nothing can be violated in its eyes."""
    return bool(_columns(added)[list(needs)].any())


def _columns(names: frozenset[str]) -> np.ndarray:
    """Where outputs of these names stand in a row."""
    there = np.zeros(4, bool)
    for name, columns, _ in OUTPUTS:
        there[columns] = name in names
    return there


def _rows(request: bytes) -> np.ndarray:
    message = pb.ModelInferRequest.FromString(request)
    tensor = referee.tensor(message.inputs, message.raw_input_contents, "x")
    require(tensor is not None, "accepted an input that others cannot decode")
    return tensor.values.reshape(-1, 2)


def _outputs(content: bytes, rows: int, dropped: frozenset[str]) -> np.ndarray:
    message = pb.ModelInferResponse.FromString(content)
    outputs = np.full((rows, 4), np.nan)
    for name, columns, datatype in OUTPUTS:
        tensor = referee.tensor(message.outputs, message.raw_output_contents, name)
        if name in dropped:
            require(name not in [each.name for each in message.outputs], f"{name} was not asked for")
            continue
        require(
            tensor is not None and tensor.datatype == datatype, f"judged an output {name} that others cannot decode"
        )
        outputs[:, columns] = tensor.values.reshape(rows, -1)
    return outputs


def mutate(data: bytes, rng: random.Random) -> bytes:
    selector, request, response = framing.split(data, 3)
    if rng.random() < 0.55:
        request = mutated(request, pb.ModelInferRequest.DESCRIPTOR, _REQUESTS, rng)
    else:
        response = mutated(response, pb.ModelInferResponse.DESCRIPTOR, _ANSWERS, rng)
    if rng.random() < 0.1:
        request, response = rng.choice(_REQUESTS), rng.choice(_ANSWERS)
    return framing.join(selector[:1] if rng.random() < 0.95 else bytes([rng.randrange(3)]), request, response)


TARGET = Target("exchange", check, mutate, SEEDS)
