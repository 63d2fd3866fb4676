"""The binary sections: coverage, vectors, sources. Little-endian, counts as u32.

Coverage holds per gate the number of regions, and per region the number of nodes n, kind i32 (n), threshold f64 (of
each node that splits), volume f64 (4). A node's kind is the feature that it splits, or for a leaf its label negated.

Vectors holds their number v, inputs f64 (v, input), outputs f64 (v, output), lower f64 (v, output),
upper f64 (v, output), corrected f64 (v, output), contained u8 (v, gate), fired u8 (v, gate).

Sources holds their number, and per source the length of its origin, the origin in UTF-8, the length of
its content, the content.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.cursor import Cursor, count_bytes
from sidecar.bundle.limits import MAX_BUNDLE_BYTES, MAX_COVERAGE_BYTES, MAX_SOURCES
from sidecar.bundle.strict_json import Node
from sidecar.bundle.values import PropertySource, SelfTestVectors
from sidecar.errors import Reason
from sidecar.gates.values import Gate
from sidecar.tensors import ModelSignature

_Scalar = TypeVar("_Scalar", bound=np.generic)


def encode_coverage(coverage: Iterable[Sequence[CoverageTree]]) -> bytes:
    """The section's payload."""
    parts = []
    for trees in coverage:
        parts.append(count_bytes(len(trees)))
        parts.extend(_tree(tree) for tree in trees)
    return b"".join(parts)


def _tree(tree: CoverageTree) -> bytes:
    leaf = tree.feature == LEAF
    return b"".join(
        (
            count_bytes(len(tree.feature)),
            _little_endian(np.where(leaf, -tree.label.astype(np.int32), tree.feature), "i4"),
            _little_endian(tree.threshold[~leaf], "f8"),
            _little_endian(tree.volume, "f8"),
        )
    )


def _little_endian(array: npt.NDArray[np.generic], dtype: str) -> bytes:
    return array.astype(f"<{dtype}").tobytes()


def decode_coverage(payload: bytes, gates: Sequence[Gate]) -> tuple[tuple[CoverageTree, ...], ...]:
    """One tree per region of each gate, arrays as they stand. Raises BUNDLE_COVERAGE."""
    cursor = Cursor(payload, "coverage", Reason.BUNDLE_COVERAGE)
    if len(payload) > MAX_COVERAGE_BYTES:
        raise cursor.error(f"{len(payload)} bytes, expected at most {MAX_COVERAGE_BYTES}, with fewer --max-regions")
    coverage = tuple(_read_trees(cursor, gate) for gate in gates)
    cursor.finish()
    return coverage


def _read_trees(cursor: Cursor, gate: Gate) -> tuple[CoverageTree, ...]:
    regions = cursor.count(at_most=len(gate.domain))
    if regions != len(gate.domain):
        raise cursor.error(f"{regions} trees for gate {gate.property_id!r}, expected {len(gate.domain)}, one a region")
    return tuple(_read_tree(cursor) for _ in range(regions))


def _read_tree(cursor: Cursor) -> CoverageTree:
    kind = cursor.array(np.int32, cursor.count(at_most=MAX_COVERAGE_BYTES))
    if (kind < -max(Label)).any():
        raise cursor.error(f"a node of kind {kind.min()}, expected a feature's index or -1, -2, -3 for a leaf's label")
    leaf = kind < 0
    threshold = np.zeros(len(kind))
    threshold[~leaf] = cursor.array(np.float64, int((~leaf).sum()))
    return CoverageTree(
        feature=_read_only(np.where(leaf, np.int32(LEAF), kind)),
        threshold=_read_only(threshold),
        label=_read_only(np.where(leaf, -kind, 0).astype(np.uint8)),
        volume=cursor.array(np.float64, len(Label)),
    )


def _read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    array.setflags(write=False)
    return array


def encode_vectors(vectors: SelfTestVectors) -> bytes:
    """The section's payload; every NaN is written with the same bits."""
    return b"".join(
        (
            count_bytes(len(vectors.inputs)),
            _little_endian(vectors.inputs, "f8"),
            _little_endian(vectors.outputs, "f8"),
            _little_endian(vectors.lower, "f8"),
            _little_endian(vectors.upper, "f8"),
            _little_endian(np.where(np.isnan(vectors.corrected), np.nan, vectors.corrected), "f8"),
            _little_endian(vectors.contained, "u1"),
            _little_endian(vectors.fired, "u1"),
        )
    )


def decode_vectors(payload: bytes, signature: ModelSignature, gates: int) -> SelfTestVectors:
    """The vectors as they stand. Raises BUNDLE_VECTORS."""
    cursor = Cursor(payload, "vectors", Reason.BUNDLE_VECTORS)
    count = cursor.count(at_most=MAX_BUNDLE_BYTES)
    vectors = SelfTestVectors(
        inputs=cursor.array(np.float64, count, signature.input_size),
        outputs=cursor.array(np.float64, count, signature.output_size),
        lower=cursor.array(np.float64, count, signature.output_size),
        upper=cursor.array(np.float64, count, signature.output_size),
        corrected=cursor.array(np.float64, count, signature.output_size),
        contained=_read_flags(cursor, count, gates),
        fired=_read_flags(cursor, count, gates),
    )
    cursor.finish()
    return vectors


def _read_flags(cursor: Cursor, *shape: int) -> npt.NDArray[np.bool_]:
    flags = cursor.array(np.uint8, *shape)
    if (flags > 1).any():
        raise cursor.error(f"a flag {flags.max()}, expected 0 or 1")
    return flags.astype(np.bool_)


def encode_sources(sources: Sequence[PropertySource]) -> bytes:
    """The section's payload."""
    parts = [count_bytes(len(sources))]
    for source in sources:
        # A lone surrogate (a file name that was no UTF-8) is written as it is, for acceptance to refuse.
        origin = source.origin.encode(errors="surrogatepass")
        parts += [count_bytes(len(origin)), origin, count_bytes(len(source.content)), source.content]
    return b"".join(parts)


def decode_sources(payload: bytes) -> tuple[PropertySource, ...]:
    """The property files. Raises BUNDLE_SOURCES."""
    cursor = Cursor(payload, "sources", Reason.BUNDLE_SOURCES)
    sources = tuple(_read_source(cursor) for _ in range(cursor.count(at_most=MAX_SOURCES)))
    cursor.finish()
    return sources


def _read_source(cursor: Cursor) -> PropertySource:
    origin = cursor.take(cursor.count(at_most=MAX_BUNDLE_BYTES))
    content = cursor.take(cursor.count(at_most=MAX_BUNDLE_BYTES))
    try:
        text = origin.decode()
    except UnicodeDecodeError:
        raise cursor.error(f"a file name {origin[:40]!r} that is no UTF-8") from None
    return PropertySource(Node(text, "sources: file name", cursor.reason).name(), content)
