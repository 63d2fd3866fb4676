"""Active bundles as flat arrays for the native transport: the very arrays that are evaluated here.

What a bundle needs that the native evaluation does not know keeps it from being handed over as a whole, never in part.
Numbers are little-endian: float64, int64, int32 for features, bytes for truth values and labels.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sidecar.config import OnUpstreamFailure, Outside
from sidecar.gates.filter import LiteralTable
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels
from sidecar.tensors import FLOATING_DATATYPES, TensorSpec

TABLE_FORMAT: Final = "1"
"""Of what is said here; the native transport says the same, or is not used."""

_SEPARATOR: Final = "\0"
"""In no name."""


def is_judged_natively(bundle: ActiveBundle, models: ActiveModels) -> bool:
    """Whether the native transport may judge a bundle's requests; if not, every one of them is handed over."""
    datatypes = {spec.datatype for spec in (*bundle.signature.inputs, *bundle.signature.outputs)}
    policy = bundle.policy
    is_ordinary = (
        policy.torchserve is None
        and policy.on_upstream_failure is OnUpstreamFailure.ERROR
        and policy.upstream_timeout_seconds is None
    )
    return is_ordinary and not models.withheld(bundle) and datatypes <= set(FLOATING_DATATYPES)


def bundle_tables(bundle: ActiveBundle, limit_rows: int) -> dict[str, Any]:
    """A bundle for the native transport."""
    gates, coverage, signature = bundle.gates, bundle.coverage, bundle.signature
    return {
        "key": counted_as(bundle),
        "limit_rows": limit_rows,
        "refuses_outside": bundle.policy.outside is Outside.REFUSE,
        "versions": list(bundle.bundle.manifest.versions),
        "batched": signature.batch_axis is not None,
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(signature.outputs),
        "input_size": signature.input_size,
        "width": 1 + signature.input_size + signature.output_size,
        "modes": [str(mode) for mode in bundle.modes],
        "lower": _floats(gates.lower),
        "upper": _floats(gates.upper),
        "gate_regions": _indices(gates.gate_regions),
        "cut_regions": _indices(gates.cut_regions),
        "region_cuts": _indices(gates.region_cuts),
        "gate_clauses": _indices(gates.gate_clauses),
        "clause_literals": _indices(gates.clause_literals),
        **_literals("cuts", gates.cuts),
        **_literals("literals", gates.literals),
        "coverage.root": _indices(coverage.root),
        "coverage.feature": np.ascontiguousarray(coverage.feature, dtype="<i4").tobytes(),
        "coverage.threshold": _floats(coverage.threshold),
        "coverage.left": _indices(coverage.left),
        "coverage.right": _indices(coverage.right),
        "coverage.label": np.ascontiguousarray(coverage.label, dtype="u1").tobytes(),
    }


def counted_as(bundle: ActiveBundle) -> str:
    """Under which key the native transport counts: what is counted for one bundle goes on under the next one with the
    same properties, in the same order.
    """
    return _SEPARATOR.join([bundle.model_name, *bundle.property_ids])


def labels_of(key: str) -> tuple[str, tuple[str, ...]]:
    """The model and its properties again."""
    model, *property_ids = key.split(_SEPARATOR)
    return model, tuple(property_ids)


def _tensors(specs: Sequence[TensorSpec]) -> list[tuple[str, str, list[int]]]:
    return [(spec.name, str(spec.datatype), list(spec.row_shape)) for spec in specs]


def _literals(name: str, table: LiteralTable) -> dict[str, bytes]:
    return {
        f"{name}.offsets": _indices(table.offsets),
        f"{name}.columns": _indices(table.columns),
        f"{name}.coefficients": _floats(table.coefficients),
        f"{name}.strict": np.ascontiguousarray(table.strict, dtype="u1").tobytes(),
        f"{name}.relative": _floats(table.relative),
        f"{name}.absolute": _floats(table.absolute),
    }


def _floats(array: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype="<f8").tobytes()


def _indices(array: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype="<i8").tobytes()
