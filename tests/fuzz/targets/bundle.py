"""The bundle reader, past its digest: what is accepted behaves, and means what its own numbers say."""

import dataclasses
import hashlib
import json
import random
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from sidecar.bundle.acceptance import accept, sealed_part
from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import Label
from sidecar.bundle.self_test import expected_decisions
from sidecar.bundle.signature import Trust
from sidecar.errors import BundleError
from sidecar.gates.decide import Outcome, decide
from sidecar.gates.values import Gate, Literal, Mode, Norm, Region
from sidecar.proxy.active_bundle import ActiveBundle, activate
from tests.conformance import guarded_model as conformance
from tests.conformance.bundle_variants import variant
from tests.fuzz.target import Target, require

HEADER, TAG, LENGTH, DIGEST = 20, 8, 8, 32
TRAILER_KIND = b"SHA-256 "
JSON_SECTIONS = (0, 1)
TEXTS = ["0", "1", "-1", "1/3", "-7/2", "1000000", "0.5", "1/0", "-0", "9" * 40, "1" + "0" * 1023, "1/" + "9" * 1024]
TEXTS += [
    "",
    "x",
    "y",
    "z",
    "FP32",
    "FP64",
    "FP16",
    "BF16",
    "BYTES",
    "project",
    "refuse",
    "fallback",
    "patch",
    "l1",
    "l2",
]
TEXTS += ["linf", "enforce", "shadow", "off", "ieee32", "bf16", "a\nb", "\u202e", "\x1b[31m"]
INTEGERS = [0, 1, 2, 3, 4, 7, -1, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**30]


def _overlapping() -> bytes:
    """Gates that meet, of all norms, each with an alternative."""
    gates = []
    for index, norm in enumerate((Norm.L1, Norm.LINF, Norm.L2)):
        first = {0: 1, index: -1} if index else {0: 1}
        alternatives = [conformance.literal(first, 1), conformance.literal({3: 2}, -index)]
        made = conformance.gate(f"g{index}", ("0", "1"), [alternatives])
        gates.append((dataclasses.replace(made, norm=norm), Mode.ENFORCE, conformance.leaf(Label.OPEN)))
    return conformance.bundle_bytes(gates=tuple(gates))


SEEDS = [conformance.bundle_bytes(), variant(2), variant(5, depth=3), _overlapping()]


def check(data: bytes, deciding=decide) -> None:
    try:
        active = activate(data)
    except BundleError as error:
        require("\n" not in str(error), "an error of several lines")
        return
    require(encode(active.bundle) == sealed_part(data), "two encodings of one bundle are accepted")
    rng = np.random.default_rng(zlib.crc32(data))
    inputs, outputs = _rows(active, rng)
    modes = [Mode.ENFORCE] * len(active.bundle.gates)
    decisions = deciding(active.gates, modes, inputs, outputs)
    decided = {row.row: row for row in decisions.rows}
    for index, (x, y) in enumerate(zip(inputs, outputs, strict=True)):
        row = decided.get(index)
        broken = _broken(active.bundle.gates, x, y)
        require((row is not None and row.outcome is not Outcome.UNTOUCHED) == bool(broken), f"{broken} at {x.tolist()}")
        if row is not None and row.output is not None:
            left = _broken(active.bundle.gates, x, row.output)
            require(not left, f"corrected to {row.output.tolist()}, which violates {left}")


def _rows(active: ActiveBundle, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A corner of each of some domains, and points beside; wire values all of them."""
    corners = [region.box for each in active.bundle.gates for region in each.domain][:3]
    with np.errstate(over="ignore"):
        lowers = [[_float(v) for v in box.lower] for box in corners] + [
            [_float(v) for v in box.upper] for box in corners
        ]
        inputs = np.array(lowers).astype(np.float16).astype(np.float64)
    inputs = np.where(np.isfinite(inputs), inputs, 0.0)
    outputs = rng.integers(-4, 5, (len(inputs), active.signature.output_size)).astype(np.float64)
    return inputs, outputs


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return 0.0


def _broken(gates: Sequence[Gate], x: np.ndarray, y: np.ndarray) -> list[str]:
    """The gates that hold this input and not this answer, in exact fractions."""
    inputs, outputs = ([Fraction(float(value)) for value in row] for row in (x, y))
    return [
        each.property_id
        for each in gates
        if any(_inside(region, inputs) for region in each.domain)
        and not all(any(_holds(literal, inputs, outputs) for literal in clause) for clause in each.requirement.clauses)
    ]


def _inside(region: Region, inputs: Sequence[Fraction]) -> bool:
    box = zip(region.box.lower, inputs, region.box.upper, strict=True)
    return all(low <= value <= high for low, value, high in box) and all(_holds(cut, inputs, ()) for cut in region.cuts)


def _holds(stated: Literal, inputs: Sequence[Fraction], outputs: Sequence[Fraction]) -> bool:
    total = (
        stated.offset + sum(c * inputs[i] for i, c in stated.inputs) + sum(c * outputs[i] for i, c in stated.outputs)
    )
    return total > 0 or (total == 0 and not stated.strict)


# -- mutation ------------------------------------------------------------------------------------------------


def split(data: bytes) -> list[tuple[bytes, bytes]]:
    """Tags and payloads of whatever can be taken for sections."""
    sections, at = [], HEADER
    while at + TAG + LENGTH <= len(data) - DIGEST - len(TRAILER_KIND):
        size = int.from_bytes(data[at + TAG : at + TAG + LENGTH], "little")
        end = min(at + TAG + LENGTH + size, len(data) - DIGEST - len(TRAILER_KIND))
        sections.append((data[at : at + TAG], data[at + TAG + LENGTH : end]))
        at = end
    return sections


def sealed(head: bytes, sections: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A whole file around the sections, its length and its digest right."""
    body = b"".join(tag + len(payload).to_bytes(LENGTH, "little") + payload for tag, payload in sections)
    length = HEADER + len(body) + len(TRAILER_KIND) + DIGEST
    preceding = head[:12].ljust(12, b"\0") + length.to_bytes(LENGTH, "little") + body + TRAILER_KIND
    return preceding + hashlib.sha256(preceding).digest()


def mutate(data: bytes, rng: random.Random) -> bytes:
    sections = split(data)
    if not sections or rng.random() < 0.05:
        return rng.choice(SEEDS) if not sections else _scratched(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        index = rng.randrange(len(sections)) if rng.random() < 0.5 else min(1, len(sections) - 1)
        tag, payload = sections[index]
        sections[index] = (tag, _mutated_json(payload, rng) if index in JSON_SECTIONS else _scratched(payload, rng))
    if rng.random() < 0.03:
        sections.insert(rng.randrange(len(sections)), rng.choice(sections))
    if rng.random() < 0.03:
        sections.pop(rng.randrange(len(sections)))
    made = sealed(data, sections)
    return _with_own_vectors(made) if rng.random() < 0.7 else made


def _with_own_vectors(data: bytes) -> bytes:
    """With the verdicts that go with its gates, so that the self-test does not stop it."""
    try:
        accepted = accept(data, Trust())
        vectors = accepted.vectors
        own = expected_decisions(accepted.gates, accepted.manifest.signature, vectors.inputs, vectors.outputs)
        return encode(dataclasses.replace(accepted, vectors=own))
    except Exception:
        return data


def _scratched(payload: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(payload))
    match rng.randrange(5):
        case 0:
            put = rng.choice(INTEGERS[:-2]).to_bytes(8, "little", signed=True)[:4]
        case 1:
            put = np.float64(rng.choice([0.0, -0.0, 0.5, 1.0, 1e300, np.nan, np.inf, -1.5])).tobytes()
        case 2:
            return payload[:at] + payload[at + rng.choice((1, 4, 8)) :]
        case 3:
            return payload[:at] + payload[max(0, at - rng.choice((1, 4, 8, 40))) :]
        case _:
            put = rng.randbytes(1)
    return payload[:at] + put + payload[at + len(put) :]


def _mutated_json(payload: bytes, rng: random.Random) -> bytes:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return _scratched(payload, rng)
    if rng.random() < 0.05:
        return _scratched(payload, rng)
    _change(document, rng)
    if payload[:1] == b"{":
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(errors="surrogatepass")
    return json.dumps(document, separators=(",", ":")).encode()


def _change(document: Any, rng: random.Random) -> None:
    places = [(parent, key) for parent, key in _places(document)]
    if not places:
        return
    parent, key = rng.choice(places)
    match rng.randrange(8):
        case 0 if isinstance(parent, list):
            parent.insert(key, parent[key])
        case 1 if isinstance(parent, list):
            del parent[key]
        case 2 | 3:
            # What stands under the same name elsewhere: values change their places and keep their sense.
            alike = [p[k] for p, k in places if k == key and type(p[k]) is type(parent[key])]
            parent[key] = json.loads(json.dumps(rng.choice(alike)))
        case 4:
            parent[key] = rng.choice((None, True, False, [], {}, rng.choice(TEXTS), rng.choice(INTEGERS)))
        case _:
            parent[key] = _like(parent[key], rng)


def _like(value: Any, rng: random.Random) -> Any:
    match value:
        case bool():
            return not value
        case str():
            return rng.choice(TEXTS)
        case int():
            return rng.choice(INTEGERS)
        case list() if value:
            return value[::-1] if rng.random() < 0.3 else value + value[:1]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, (list, dict)):
            keys = list(each) if isinstance(each, dict) else list(range(len(each)))
            found += [(each, key) for key in keys]
            pending += [each[key] for key in keys]
    return found


TARGET = Target("bundle", check, mutate, SEEDS, limit_bytes=16_384, limit_seconds=6.0)
