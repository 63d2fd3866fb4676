"""The answer from the properties' fallbacks, for where the upstream gives none: only where it is right.

It is right where every row lies in the domain of an enforced property with a fallback that satisfies *all* enforced
properties which contain the row, and where the client asked for nothing but guarded outputs. The row's first such
fallback counts, in the order of the bundle's properties. (A client that names no outputs asks for all of the model's;
those that the verified model has are the bundle's.)
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from sidecar.errors import InternalError, Reason
from sidecar.gates.satisfaction import satisfied
from sidecar.gates.values import Action, Mode
from sidecar.protocols.open_inference.request import Asked
from sidecar.protocols.open_inference.response import drop_outputs, encode_response, read_response
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.tensors import Rows


def all_have_fallbacks(bundle: ActiveBundle, contained: npt.NDArray[np.bool_]) -> bool:
    """Whether every row lies in some enforced property's domain that has a fallback."""
    return len(contained) > 0 and bool(contained[:, _with_fallback(bundle)].any(axis=1).all())


def fallback_answer(
    bundle: ActiveBundle,
    inputs: Rows,
    contained: npt.NDArray[np.bool_],
    asked: Asked,
    added_outputs: Collection[str],
) -> bytes | None:
    """A ModelInferResponse; None where no answer would be right.

    Args:
        bundle: whose properties' fallbacks are used.
        inputs: float64 (row, input); of the request.
        contained: bool (row, gate).
        asked: what the answer repeats of the request.
        added_outputs: guarded outputs that the client did not ask for.

    Raises:
        InternalError: the answer, read again, violates a property.
    """
    if not set(asked.outputs) <= {spec.name for spec in bundle.signature.outputs}:
        return None
    enforced = contained & [mode is Mode.ENFORCE for mode in bundle.modes]
    rows = _fallback_rows(bundle, inputs, enforced)
    if rows is None:
        return None
    answer = encode_response(asked, rows, bundle.signature)
    read = read_response(answer, bundle.signature, len(inputs)).outputs
    if not satisfied(bundle.gates, inputs, read, enforced).all():
        raise InternalError(Reason.INTERNAL, "the answer made of fallbacks violates a property")
    return drop_outputs(answer, frozenset(added_outputs)) if added_outputs else answer


def _with_fallback(bundle: ActiveBundle) -> list[int]:
    return [
        gate
        for gate, (each, mode) in enumerate(zip(bundle.gates.gates, bundle.modes, strict=True))
        if each.action is Action.FALLBACK and mode is Mode.ENFORCE
    ]


def _fallback_rows(bundle: ActiveBundle, inputs: Rows, enforced: npt.NDArray[np.bool_]) -> Rows | None:
    """A fallback for every row, float64 (row, output); None where some row has none."""
    rows = np.full((len(inputs), bundle.signature.output_size), np.nan)
    missing = np.ones(len(inputs), dtype=np.bool_)
    for gate in _with_fallback(bundle):
        tried = np.flatnonzero(missing & enforced[:, gate])
        fallback = np.tile(bundle.gates.fallbacks[gate], (len(tried), 1))
        fitting = tried[satisfied(bundle.gates, inputs[tried], fallback, enforced[tried]).all(axis=1)]
        rows[fitting] = bundle.gates.fallbacks[gate]
        missing[fitting] = False
    return None if missing.any() else rows
