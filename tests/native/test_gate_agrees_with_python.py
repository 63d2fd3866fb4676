"""What the native evaluation answers by itself, the Python functions answer with the same bytes and the same events.

Random gates, coverage, policies and rows, in random encodings, some of them broken. Where the native evaluation hands
over there is nothing to compare: the Python functions get the same bytes then.
"""

import collections
import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.bundle.coverage import LEAF, CoverageTree, Label, prepare_coverage
from sidecar.bundle.values import PropertyRecord
from sidecar.config import ModelPolicy, Outside
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement
from sidecar.numerics import largest_finite, next_down, next_up
from sidecar.properties.values import Traceability
from sidecar.proxy.active_bundle import ActiveBundle, active_models
from sidecar.proxy.events import Refusal, RequestOutcome, RowOutcome
from sidecar.proxy.request_path import Judgement, admit, judge
from sidecar.tensors import Datatype, ModelSignature, TensorSpec, decode_raw, encode_raw
from tests.conformance.guarded_model import bundle, leaf
from tests.laws.test_gate_evaluation import gates, signatures, wire_values

native = pytest.importorskip("gate_sidecar_native", reason="NOT RUN: the native transport is not built (make native)")

MODEL = "m"
LIMIT_ROWS = 3
_ANY = bundle()
_HAS_VERSIONS = any(field.name == "versions" for field in dataclasses.fields(_ANY.manifest))

_TYPICAL = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))


# -- what is guarded


@st.composite
def trees(draw, inputs: int) -> CoverageTree:
    nodes: list[tuple[float, float, float]] = []
    waiting = [0]  # depths of nodes to come, level by level
    for depth in waiting:
        if depth < 2 and draw(st.booleans()):
            threshold = draw(st.sampled_from([-1.0, -0.5, 0.0, 0.1, 0.5, 1.0]))
            nodes.append((draw(st.integers(0, inputs - 1)), threshold, 0))
            waiting += [depth + 1, depth + 1]
        else:
            nodes.append((LEAF, 0.0, draw(st.sampled_from([Label.SILENT, Label.VIOLATING, Label.OPEN]))))
    feature, thresholds, label = zip(*nodes, strict=True)
    return CoverageTree(np.array(feature, np.int32), np.array(thresholds), np.array(label, np.uint8), np.zeros(4))


def active_bundle(
    signature: ModelSignature,
    guarded: tuple[Gate, ...],
    coverage: tuple[tuple[CoverageTree, ...], ...],
    modes: tuple[Mode, ...],
    policy: ModelPolicy,
    versions: tuple[str, ...] = (),
) -> ActiveBundle:
    """A bundle as activation makes it; whether it would be accepted is another matter."""
    properties = tuple(
        PropertyRecord(Traceability(gate.property_id), mode) for gate, mode in zip(guarded, modes, strict=True)
    )
    manifest = dataclasses.replace(_ANY.manifest, signature=signature, properties=properties)
    if _HAS_VERSIONS:
        manifest = dataclasses.replace(manifest, versions=versions)
    return ActiveBundle(
        model_name=MODEL,
        digest="0" * 64,
        bundle=dataclasses.replace(_ANY, manifest=manifest, gates=guarded, coverage=coverage),
        gates=prepare(guarded, signature),
        coverage=prepare_coverage(guarded, coverage, signature),
        property_ids=tuple(gate.property_id for gate in guarded),
        modes=modes,
        watched=np.array([mode is not Mode.OFF for mode in modes]),
        policy=policy,
    )


@st.composite
def active_bundles(draw) -> ActiveBundle:
    signature = dataclasses.replace(draw(signatures()), batch_axis=draw(st.sampled_from([0, 0, 0, None])))
    drawn = draw(st.lists(gates(signature), min_size=1, max_size=3))
    guarded = tuple(dataclasses.replace(gate, property_id=f"p{number}") for number, gate in enumerate(drawn))
    coverage = tuple(tuple(draw(trees(signature.input_size)) for _ in gate.domain) for gate in guarded)
    modes = tuple(draw(st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW, Mode.OFF])) for _ in guarded)
    policy = ModelPolicy(outside=draw(st.sampled_from([Outside.PASS, Outside.PASS, Outside.REFUSE])))
    versions = draw(st.sampled_from([(), (), ("1",), ("1", "2")]))
    return active_bundle(signature, guarded, coverage, modes, policy, versions)


# -- rows


@st.composite
def inputs_near(draw, active: ActiveBundle, plain: bool) -> list[float]:
    """Mostly in some region's box: on its faces, on their neighbours, in between."""
    prepared, kinds = active.gates, active.signature.input_datatypes()
    region = draw(st.integers(0, len(prepared.lower) - 1))
    row = []
    for lower, upper, kind in zip(prepared.lower[region].tolist(), prepared.upper[region].tolist(), kinds, strict=True):
        largest = largest_finite(kind)
        usual = ["lower", "upper", "lower", "upper", "inside", "inside"]
        match draw(st.sampled_from(usual if plain else [*usual, "below", "above", "any"])):
            case _ if lower > upper:  # no value of the datatype lies there
                row.append(draw(wire_values(kind)))
            case "lower":
                row.append(lower)
            case "upper":
                row.append(upper)
            case "inside":
                value = draw(wire_values(kind))
                row.append(value if lower <= value <= upper else lower)
            case "below" if lower > -largest:
                row.append(next_down(lower, kind))
            case "above" if upper < largest:
                row.append(next_up(upper, kind))
            case _:
                row.append(draw(wire_values(kind)))
    return row


@st.composite
def outputs_of(draw, kinds) -> list[float]:
    special = draw(st.integers(0, 19)) == 19
    row = [draw(wire_values(kind)) for kind in kinds]
    if special:
        row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return row


# -- messages


def varint(value: int) -> bytes:
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


PARAMETER = field(4, field(1, b"priority") + field(2, b"\x10\x07"))


@st.composite
def tensor_fields(draw, spec: TensorSpec, shape: Sequence[int], is_answer: bool, plain: bool) -> bytes:
    match draw(st.sampled_from(["packed", "packed", "unpacked", "both"])):
        case "packed":
            sizes = [field(3, b"".join(map(varint, shape)))] if shape else []
        case "unpacked":
            sizes = [b"\x18" + varint(size) for size in shape]
        case _:
            sizes = [b"\x18" + varint(size) for size in shape[:1]] + [field(3, varint(size)) for size in shape[1:]]
    fields = [field(1, spec.name.encode()), field(2, str(spec.datatype).encode()), b"".join(sizes)]
    if not plain and draw(st.integers(0, 4)) == 4:
        fields.append(PARAMETER if draw(st.booleans()) else field(5, b""))
        if not is_answer and draw(st.booleans()):
            fields.pop()
    return field(5, b"".join(draw(st.permutations(fields))))


@st.composite
def messages(draw, signature: ModelSignature, rows: np.ndarray, is_answer: bool, plain: bool) -> bytes:
    specs = signature.outputs if is_answer else signature.inputs
    starts = np.cumsum([0, *(spec.row_size for spec in specs)])
    carried = []
    for spec, start in zip(specs, starts, strict=False):
        values = np.ascontiguousarray(rows[:, start : start + spec.row_size]).reshape(-1)
        shape = spec.row_shape if signature.batch_axis is None else (len(rows), *spec.row_shape)
        carried.append((draw(tensor_fields(spec, shape, is_answer, plain)), encode_raw(values, spec.datatype)))
    if draw(st.integers(0, 4)) == 4:
        carried.append((field(5, field(1, b"other") + field(2, b"BYTES") + b"\x18\x01"), b"\1\0\0\0a"))
    carried = draw(st.permutations(carried))
    described = [tensor for tensor, _ in carried]
    raw = [field(6 if is_answer else 7, content) for _, content in carried]
    fields = [*described, *raw] if draw(st.booleans()) else [*raw, *described]
    others = [
        field(1, MODEL.encode()),
        *([field(2, draw(st.sampled_from([b"1", b"2", b"3"])))] if draw(st.integers(0, 2)) == 2 else []),
        *([field(3, b"id")] if draw(st.booleans()) else []),
        *([PARAMETER] if draw(st.integers(0, 3)) == 0 else []),
        *([] if is_answer or plain else draw(asked(signature))),
    ]
    for other in others:
        fields.insert(draw(st.integers(0, len(fields))), other)
    return b"".join(fields) if plain else draw(maybe_broken(b"".join(fields)))


@st.composite
def asked(draw, signature: ModelSignature) -> list[bytes]:
    if draw(st.integers(0, 2)):
        return []
    names = [*(spec.name for spec in signature.outputs), *(["other"] if draw(st.booleans()) else [])]
    if draw(st.integers(0, 3)) == 0:
        names.append(draw(st.sampled_from(names)))
    if draw(st.integers(0, 3)) == 0:
        names.pop()
    return [field(6, field(1, name.encode())) for name in draw(st.permutations(names))]


@st.composite
def maybe_broken(draw, content: bytes) -> bytes:
    how = draw(st.sampled_from([*["not"] * 12, "cut", "changed", "inserted", "long", "doubled"]))
    at = draw(st.integers(0, len(content) - 1))
    match how:
        case "cut":
            return content[:at]
        case "changed":
            return content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
        case "inserted":
            return content[:at] + bytes([draw(st.integers(0, 255))]) + content[at:]
        case "long":  # some byte as the first of a number of more bytes than it takes
            more = draw(st.integers(1, 9))
            return content[:at] + bytes([content[at] | 0x80]) + b"\x80" * (more - 1) + b"\0" + content[at + 1 :]
        case "doubled":
            return content + content[: draw(st.integers(0, len(content)))]
        case _:
            return content


@st.composite
def exchanges(draw):
    active = draw(active_bundles())
    signature = active.signature
    count = draw(st.sampled_from([1, 1, 1, 2, 3, 4])) if signature.batch_axis == 0 else 1
    plain = draw(st.integers(0, 4)) < 4
    inputs = np.array([draw(inputs_near(active, plain)) for _ in range(count)])
    answered = count if signature.batch_axis is None or plain or draw(st.booleans()) else count + 1
    outputs = np.array([draw(outputs_of(signature.output_datatypes())) for _ in range(answered)])
    request = draw(messages(signature, inputs, is_answer=False, plain=plain))
    return active, request, draw(messages(signature, outputs, is_answer=True, plain=plain))


# -- the laws


def judged_by_python(active: ActiveBundle, request: bytes, response: bytes) -> Judgement:
    admission = admit(request, (), active_models([active], LIMIT_ROWS))
    assert not isinstance(admission, Refusal), admission
    assert admission.forward == request
    judgement = judge(admission.plan, response)
    assert isinstance(judgement, Judgement), judgement
    return judgement


def test_what_is_answered_is_what_python_answers():
    from sidecar.proxy.native_tables import bundle_tables

    verdicts: collections.Counter[str] = collections.Counter()

    @_TYPICAL
    @given(exchanges())
    def agrees(exchange):
        active, request, response = exchange
        verdict = native.evaluate(MODEL, bundle_tables(active, LIMIT_ROWS), request, response)
        if verdict[0] == "handed":
            verdicts[verdict[1]] += 1
            return
        _, outside, untouched, domains = verdict
        judgement = judged_by_python(active, request, response)
        assert judgement.answer == response
        assert judgement.outcome is (RequestOutcome.UNTOUCHED if untouched else RequestOutcome.OUTSIDE)
        rows = dict(judgement.events.rows)
        assert (rows.pop(RowOutcome.OUTSIDE, 0), rows.pop(RowOutcome.UNTOUCHED, 0)) == (outside, untouched)
        assert not rows
        found = collections.Counter((active.property_ids[gate], Label(label)) for gate, label in domains)
        expected = {(each.property_id, each.label): each.count for each in judgement.events.in_domain}
        assert found == expected
        assert all(getattr(each, "is_proved", True) for each in judgement.events.in_domain)
        # Nothing but the outcomes, and what was counted in domains.
        only = {"rows": judgement.events.rows, "in_domain": judgement.events.in_domain}
        assert judgement.events == type(judgement.events)(**only)
        verdicts["untouched" if untouched else "outside"] += 1

    agrees()
    print(dict(verdicts))
    reasons = {"encoding", "field", "tensors", "outputs", "not_finite", "filter", "fired", "model"}
    # Chance decides which; Rust's own tests have a case for each.
    assert len(reasons & set(verdicts)) >= 6, "the law has to meet nearly every reason"
    assert verdicts["untouched"] > 10, verdicts
    assert verdicts["outside"] > 20, verdicts


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
def test_every_small_value_is_read_as_python_reads_it(datatype):
    """Answers repeat the inputs as FP32, and a gate requires that they do: x - y >= 0 and y - x >= 0, both decided."""
    from sidecar.proxy.native_tables import bundle_tables

    signature = ModelSignature((TensorSpec("x", datatype, ()),), (TensorSpec("y", Datatype.FP32, ()),), 0)
    largest = Fraction(largest_finite(datatype))
    requirement = tuple(
        (Literal(outputs=((0, Fraction(-sign)),), inputs=((0, Fraction(sign)),), offset=Fraction(0), strict=False),)
        for sign in (1, -1)
    )
    gate = Gate(
        property_id="same",
        domain=(Region(Box((-largest,), (largest,))),),
        requirement=Requirement(requirement),
        action=Action.REFUSE,
        margin=Fraction(0),
        norm=Norm.L2,
        fallback=None,
    )
    active = active_bundle(signature, (gate,), ((leaf(Label.OPEN),),), (Mode.ENFORCE,), ModelPolicy())
    values = decode_raw(np.arange(2**16, dtype="<u2").tobytes(), datatype)
    bits = np.arange(2**16, dtype="<u2")[np.isfinite(values)]
    values = values[np.isfinite(values)]

    def verdict(answered):
        shape = b"\x18" + varint(len(values))
        x = field(5, field(1, b"x") + field(2, str(datatype).encode()) + shape)
        y = field(5, field(1, b"y") + field(2, b"FP32") + shape)
        request, response = x + field(7, bits.tobytes()), y + field(6, encode_raw(answered, Datatype.FP32))
        return native.evaluate("", bundle_tables(active, 2**16), request, response)[:3]

    assert verdict(values) == ("answered", 0, len(values))
    for place in (0, len(values) // 2, len(values) - 1):
        changed = values.copy()
        changed[place] = next_down(values[place], Datatype.FP32)
        assert verdict(changed) == ("handed", "fired")
