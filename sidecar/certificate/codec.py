"""A certificate as bytes, and back, with the same suspicion as a bundle.

    magic            8 bytes
    format version   u32
    statement        u32 length, then compact JSON: digests, arithmetic, and the steps of ``meeting``
    proofs           u32 number of regions, all gates' regions through; per region: u32 boxes n, splits i32 (n), u32
                     divided boxes d, thresholds f64 (d), u32 pieces p, u32 literals l, weights u8 (p, l), clause
                     i32 (p)
    trailer          the SHA-256 digest over all that precedes

All numbers are little-endian. What is not written in just this way is refused as unreadable.
"""

import hashlib
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final, assert_never

import numpy as np

from sidecar.bundle.cursor import Cursor, count_bytes
from sidecar.bundle.limits import MAX_BUNDLE_BYTES, MAX_GATES, MAX_GATES_BYTES, MAX_REGIONS, MAX_ROW_VALUES
from sidecar.bundle.strict_json import Node, parse, rational_text
from sidecar.bundle.values import Arithmetic
from sidecar.certificate.values import Answer, Apart, Certificate, Divide, LeafProofs, Step
from sidecar.errors import BundleError, InputError, Reason

MAGIC: Final = b"\x89GCERT\r\n"
FORMAT_VERSION: Final = 1
SUFFIX: Final = ".cert"
"""A bundle's certificate is called as the bundle, with this behind it."""

_WHERE: Final = "certificate"
_REASON: Final = Reason.BUNDLE_CERTIFICATE
_MOST: Final = MAX_BUNDLE_BYTES


def encode(certificate: Certificate) -> bytes:
    """The file's content."""
    statement = json.dumps(
        {
            "bundle_digest": certificate.bundle_digest,
            "model_digest": certificate.model_digest,
            "arithmetic": certificate.arithmetic,
            "meeting": [_step(step) for step in certificate.meeting],
        },
        separators=(",", ":"),
    ).encode("ascii")
    proofs = [proof for of_gate in certificate.leaves for proof in of_gate]
    parts = [MAGIC, count_bytes(FORMAT_VERSION), count_bytes(len(statement)), statement, count_bytes(len(proofs))]
    parts += [_proofs(proof) for proof in proofs]
    content = b"".join(parts)
    return content + hashlib.sha256(content).digest()


def _step(step: Step) -> dict[str, object]:
    match step:
        case Divide(feature, threshold):
            return {"divide": [feature, _text(threshold)]}
        case Answer(outputs):
            return {"answer": [_text(value) for value in outputs]}
        case Apart(nodes, cuts):
            return {"apart": [list(map(list, nodes)), [[*cut, _text(factor)] for *cut, factor in cuts]]}
        case _:
            assert_never(step)


def _text(number: Fraction) -> str:
    return rational_text(number, _WHERE, _REASON)


def _proofs(proofs: LeafProofs) -> bytes:
    count, literals = proofs.weights.shape
    return b"".join(
        (
            count_bytes(len(proofs.splits)),
            proofs.splits.astype("<i4").tobytes(),
            count_bytes(len(proofs.thresholds)),
            proofs.thresholds.astype("<f8").tobytes(),
            count_bytes(count),
            count_bytes(literals),
            proofs.weights.astype("u1").tobytes(),
            proofs.clause.astype("<i4").tobytes(),
        )
    )


def certificate_path(bundle: Path) -> Path:
    """Where a bundle's certificate stands: beside it."""
    return bundle.with_name(bundle.name + SUFFIX)


def read(path: Path) -> bytes:
    """A certificate file's content, no more than there may be. Raises InputError where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST + 1)
    except OSError as error:
        raise InputError(
            f"cannot read the certificate {path}: {error.strerror}; `sidecar compile` writes it beside the bundle, and"
            " without it nothing can be checked"
        ) from error


def decode(content: bytes, regions: Sequence[int]) -> Certificate:
    """The certificate that the bytes mean.

    Args:
        content: the file.
        regions: how many each gate of the bundle has.

    Raises:
        BundleError: it is not written as the module says, or not about so many regions.
    """
    if len(content) > _MOST or not content.startswith(MAGIC):
        raise _unreadable(f"{len(content)} bytes beginning {content[:8]!r}", f"at most {_MOST}, beginning {MAGIC!r}")
    body, trailer = content[:-32], content[-32:]
    if hashlib.sha256(body).digest() != trailer:
        raise _unreadable(f"contents of digest {hashlib.sha256(body).hexdigest()}", f"{trailer.hex()}: it was changed")
    cursor = Cursor(body, _WHERE, _REASON, at=len(MAGIC))
    if (version := cursor.count(at_most=2**32)) != FORMAT_VERSION:
        raise _unreadable(f"format version {version}", f"version {FORMAT_VERSION}")
    statement = parse(cursor.take(cursor.count(at_most=_MOST)), _WHERE, _REASON, MAX_GATES_BYTES)
    bundle, model, arithmetic, meeting = statement.fields("bundle_digest", "model_digest", "arithmetic", "meeting")
    if (count := cursor.count(at_most=MAX_REGIONS)) != sum(regions):
        raise _unreadable(f"proofs for {count} regions", f"{sum(regions)}, as many as the bundle has")
    leaves = tuple(tuple(_read_proofs(cursor) for _ in range(of_gate)) for of_gate in regions)
    cursor.finish()
    certificate = Certificate(
        bundle_digest=bundle.name(),
        model_digest=model.name(),
        arithmetic=arithmetic.choice(Arithmetic),
        meeting=tuple(_read_step(node) for node in meeting.elements()),
        leaves=leaves,
    )
    if encode(certificate) != content:
        raise _unreadable("a certificate that is not written the one way in which it may be written", "just that")
    return certificate


def _read_step(node: Node) -> Step:
    match node.pairs(at_most=1):
        case [("divide", value)]:
            feature, threshold = _parts(value, 2)
            return Divide(feature.integer(0, MAX_ROW_VALUES), threshold.rational())
        case [("answer", value)]:
            return Answer(tuple(number.rational() for number in value.elements(MAX_ROW_VALUES)))
        case [("apart", value)]:
            nodes, cuts = _parts(value, 2)
            return Apart(
                tuple(_read_node(each) for each in nodes.elements()), tuple(_read_cut(each) for each in cuts.elements())
            )
        case _:
            return node.refuse("one of divide, answer, apart")


def _read_node(node: Node) -> tuple[int, int]:
    gate, region = _parts(node, 2)
    return gate.integer(0, MAX_GATES), region.integer(0, MAX_REGIONS)


def _read_cut(node: Node) -> tuple[int, int, int, Fraction]:
    gate, region, cut, factor = _parts(node, 4)
    return gate.integer(0, MAX_GATES), region.integer(0, MAX_REGIONS), cut.integer(0, 2**31), factor.rational()


def _parts(node: Node, count: int) -> list[Node]:
    parts = node.elements(count)
    if len(parts) != count:
        node.refuse(f"{count} elements")
    return parts


def _read_proofs(cursor: Cursor) -> LeafProofs:
    splits = cursor.array(np.int32, cursor.count(at_most=_MOST))
    thresholds = cursor.array(np.float64, cursor.count(at_most=_MOST))
    count, literals = cursor.count(at_most=_MOST), cursor.count(at_most=_MOST)
    return LeafProofs(splits, thresholds, cursor.array(np.uint8, count, literals), cursor.array(np.int32, count))


def _unreadable(got: str, expected: str) -> BundleError:
    return BundleError(_REASON, f"{_WHERE}: got {got}, expected {expected}; compile the bundle again")
