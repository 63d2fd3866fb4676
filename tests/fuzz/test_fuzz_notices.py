"""A defect in what is fuzzed is a finding: each target, with a defect put in, over its seeds, its stored inputs and
some mutations of them."""

import dataclasses
import random
from collections.abc import Callable

import pytest

from sidecar.gates.decide import Decisions, decide
from sidecar.gates.values import Requirement
from sidecar.properties.vnnlib import read_vnnlib
from sidecar.protocols.open_inference.request import InferRequest, read_request
from sidecar.protocols.open_inference.response import drop_outputs, read_response, replace_outputs
from sidecar.protocols.wire import splice
from sidecar.proxy.events import RequestOutcome
from sidecar.proxy.request_path import Judgement, Plan
from tests.fuzz.catalogue import load, stored
from tests.fuzz.target import Finding
from tests.fuzz.targets import bundle, exchange, request, response, vnnlib

MUTATIONS = 500


def notices(name: str, check: Callable[[bytes], None], begins: bytes = b"", mutations: int = MUTATIONS) -> bool:
    target, rng = load(name), random.Random(7)
    inputs = [*target.seeds, *(path.read_bytes() for path in stored(name))]
    inputs = [data for data in inputs if data.startswith(begins)]
    inputs += [target.mutate(rng.choice(inputs), rng) for _ in range(mutations)]
    try:
        for data in inputs:
            check(data)
    except (Finding, ValueError):
        return True
    return False


def _asking_for_nothing_more(asked: InferRequest, signature, limit_rows: int):
    gated = read_request(asked, signature, limit_rows)
    return dataclasses.replace(gated, forward=gated.forward[: len(asked.content)])


def _without_sign_of_zero(asked: InferRequest, signature, limit_rows: int):
    gated = read_request(asked, signature, limit_rows)
    return dataclasses.replace(gated, inputs=gated.inputs + 0.0)


@pytest.mark.parametrize("read", [_asking_for_nothing_more, _without_sign_of_zero])
def test_a_request_read_or_forwarded_wrongly(read: Callable):
    assert notices("request", lambda data: request.check(data, read))


def _in_order_of_the_signature(content: bytes, signature, count: int):
    received = read_response(content, signature, count)
    return dataclasses.replace(received, outputs=received.outputs[:, ::-1].copy())


def _serialised_anew(received, outputs, signature):
    replaced = replace_outputs(received, outputs, signature)
    return type(received.message).FromString(replaced).SerializeToString(deterministic=True)


def _dropping_the_last_raw_contents(content: bytes, names: frozenset[str]) -> bytes:
    cut = drop_outputs(content, names)
    return cut if cut == content else splice(cut, {(6, 0): b""} if b"\x32" in cut else {})


@pytest.mark.parametrize(
    ("part", "defect"),
    [
        ("read", _in_order_of_the_signature),
        ("replace", _serialised_anew),
        ("drop", _dropping_the_last_raw_contents),
    ],
)
def test_a_response_read_or_rewritten_wrongly(part: str, defect: Callable):
    codec = type("Defective", (response.Codec,), {part: staticmethod(defect)})
    assert notices("response", lambda data: response.check(data, codec))


def _judging_nothing(_plan: Plan, answer: bytes) -> Judgement:
    return Judgement(answer, RequestOutcome.UNTOUCHED, events=())


def test_an_answer_that_is_not_judged():
    assert notices("exchange", lambda data: exchange.check(data, _judging_nothing))


def _blind_on_the_last_row(gates, modes, inputs, outputs) -> Decisions:
    decisions = decide(gates, modes, inputs, outputs)
    return dataclasses.replace(decisions, rows=tuple(row for row in decisions.rows if row.row != len(inputs) - 1))


def test_a_row_that_is_not_decided():
    assert notices("bundle", lambda data: bundle.check(data, _blind_on_the_last_row))


def _with_closed_literals(path, signature):
    file = read_vnnlib(path, signature)
    return dataclasses.replace(
        file,
        properties=tuple(
            dataclasses.replace(each, requirement=Requirement(tuple(map(_closed, each.requirement.clauses))))
            for each in file.properties
        ),
    )


def _closed(clause):
    return tuple(dataclasses.replace(literal, strict=False) for literal in clause)


def test_a_property_whose_ties_are_read_wrongly():
    assert notices("vnnlib", lambda data: vnnlib.check(data, _with_closed_literals))


def _with_outputs_exchanged(path, signature):
    file = read_vnnlib(path, signature)
    clauses = [[tuple(map(_exchanged, clause)) for clause in each.requirement.clauses] for each in file.properties]
    properties = zip(file.properties, map(tuple, clauses), strict=True)
    return dataclasses.replace(
        file, properties=tuple(dataclasses.replace(each, requirement=Requirement(new)) for each, new in properties)
    )


def _exchanged(literal):
    return dataclasses.replace(literal, outputs=tuple(sorted((1 - index, value) for index, value in literal.outputs)))


@pytest.mark.parametrize("defect", [_with_closed_literals, _with_outputs_exchanged])
def test_a_property_of_the_second_version_that_is_read_wrongly(defect: Callable):
    assert notices("vnnlib", lambda data: vnnlib.check(data, defect), b"(vnnlib-version <2.0>)", mutations=3000)
