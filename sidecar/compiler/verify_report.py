"""How verdicts are told: to a person, to a program, and in VNN-COMP's words.

**The flip.** The competition's files describe what is *unsafe*, and its words say whether that can happen: ``sat``, the
unsafe set is reached (the property is violated); ``unsat``, it is not (the property holds).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.naming import Naming
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.explain import missed_lines, value_lines
from sidecar.compiler.verdict import Verdict
from sidecar.compiler.verify import Counterexample, Verified
from sidecar.tensors import ModelSignature, TensorSpec

SHOWN_VALUES: Final = 32
"""Rows with more are not shown to a person."""

EXIT_STATUS: Final = {Verdict.HOLDS: 0, Verdict.VIOLATED: 1, Verdict.UNKNOWN: 4}


def overall(verified: Sequence[Verified]) -> Verdict:
    """Violated if one property is, else unknown if one is; holds where all do."""
    verdicts = {each.verdict for each in verified}
    return next(verdict for verdict in (Verdict.VIOLATED, Verdict.UNKNOWN, Verdict.HOLDS) if verdict in verdicts)


# -- for people ------------------------------------------------------------------------------------------------


def render(verified: Sequence[Verified], naming: Naming, arithmetic: Arithmetic) -> str:
    """A line for each property, the counterexamples, and what the verdicts mean."""
    width = max(len(each.stated.trace.property_id) for each in verified)
    lines = []
    for each in verified:
        name, verdict = each.stated.trace.property_id, each.verdict.upper()
        lines.append(f"{name:<{width}}  {verdict:<8}  {each.seconds:.1f} s, {_regions(each)}{_why(each)}")
        if each.counterexample is not None:
            lines += _counterexample_lines(each, each.counterexample, naming)
    found = {each.verdict for each in verified}
    meanings = [text.format(arithmetic=arithmetic.words) for verdict, text in _MEANING.items() if verdict in found]
    return "\n".join([*lines, *meanings])


_MEANING: Final = {
    Verdict.HOLDS: "HOLDS: proved for every input of the domain, in real arithmetic and in {arithmetic}",
    Verdict.VIOLATED: "VIOLATED: onnxruntime gives that answer to that input; it was judged in exact arithmetic",
    Verdict.UNKNOWN: "UNKNOWN: neither proved nor refuted; --time-limit gives it longer",
}


def _regions(each: Verified) -> str:
    return f"{each.regions:,} region{'' if each.regions == 1 else 's'}"


def _why(each: Verified) -> str:
    if each.timed_out:
        return ", the time limit ended it"
    return ", nothing is left to divide" if each.verdict is Verdict.UNKNOWN else ""


def _counterexample_lines(each: Verified, found: Counterexample, naming: Naming) -> list[str]:
    shown = value_lines(found.inputs, naming.inputs) if len(found.inputs) <= SHOWN_VALUES else []
    lines = ["input", *(shown or [f"  {len(found.inputs)} values: see --json or --counterexample FILE"])]
    if not found.as_stated:
        lines.append("  (beyond a bound as it is stated: the value on the wire that is nearest to it)")
    if len(found.outputs) <= SHOWN_VALUES:
        lines += ["answer", *value_lines(found.outputs, naming.outputs)]
    return lines + missed_lines(each.stated.requirement, naming, found.inputs, found.outputs)


# -- for programs ----------------------------------------------------------------------------------------------


def document(verified: Sequence[Verified], signature: ModelSignature, arithmetic: Arithmetic) -> dict[str, Any]:
    """Everything, for JSON; values on the wire."""
    return {
        "verdict": overall(verified).value,
        "result": result_word(verified),
        "arithmetic": arithmetic.value,
        "properties": [
            {
                "id": each.stated.trace.property_id,
                "verdict": each.verdict.value,
                "regions": each.regions,
                "seconds": round(each.seconds, 3),
                "timed_out": each.timed_out,
                "counterexample": _counterexample_document(each.counterexample, signature),
            }
            for each in verified
        ],
    }


def _counterexample_document(found: Counterexample | None, signature: ModelSignature) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "inputs": _by_tensor(found.inputs, signature.inputs),
        "outputs": _by_tensor(found.outputs, signature.outputs),
        "in_domain_as_stated": found.as_stated,
    }


def _by_tensor(row: npt.NDArray[np.float64], specs: Sequence[TensorSpec]) -> dict[str, list[float]]:
    ends = np.cumsum([spec.row_size for spec in specs])[:-1]
    return {spec.name: values.tolist() for spec, values in zip(specs, np.split(row, ends), strict=True)}


# -- for VNN-COMP ----------------------------------------------------------------------------------------------


def result_word(verified: Sequence[Verified]) -> str:
    """``sat``, ``unsat``, ``unknown`` or ``timeout``; see the module for the flip."""
    match overall(verified):
        case Verdict.VIOLATED:
            return "sat"
        case Verdict.HOLDS:
            return "unsat"
        case Verdict.UNKNOWN:
            return "timeout" if any(each.timed_out for each in verified) else "unknown"


def result_file(verified: Sequence[Verified]) -> str:
    """The competition's result file: the word; after ``sat`` the first counterexample.

    ``X_0, X_1, ...`` and ``Y_0, Y_1, ...`` are the values of the inputs and outputs in order, each flattened; every
    number reads back as exactly the value on the wire.
    """
    found = next((each.counterexample for each in verified if each.counterexample is not None), None)
    if found is None:
        return f"{result_word(verified)}\n"
    pairs = [f"(X_{number} {value!r})" for number, value in enumerate(found.inputs.tolist())]
    pairs += [f"(Y_{number} {value!r})" for number, value in enumerate(found.outputs.tolist())]
    return "\n".join(["sat", "(" + "\n".join(pairs) + ")", ""])
