"""Which outputs `project` may move: floating-point ones.

The nearest whole number that satisfies a requirement is no small correction of a class, a count or a flag, it is
another answer; so integer outputs are for `fallback` and `refuse`. Projection holds them where they are, also where an
overlapping property speaks about them.
"""

from sidecar.gates.values import Gate
from sidecar.tensors import FLOATING_DATATYPES, ModelSignature


def held_outputs(signature: ModelSignature) -> frozenset[int]:
    """The outputs that no projection moves, by their index in a row."""
    return frozenset(
        index for index, datatype in enumerate(signature.output_datatypes()) if datatype not in FLOATING_DATATYPES
    )


def held_tensors(gate: Gate, signature: ModelSignature) -> list[str]:
    """The tensors that a gate's requirement mentions and no projection moves, as ``name DATATYPE``, each once."""
    tensors = [f"{spec.name} {spec.datatype}" for spec in signature.outputs for _ in range(spec.row_size)]
    mentioned = {index for clause in gate.requirement.clauses for literal in clause for index, _ in literal.outputs}
    return list(dict.fromkeys(tensors[index] for index in sorted(mentioned & held_outputs(signature))))
