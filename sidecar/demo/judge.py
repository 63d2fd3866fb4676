"""The demo's verdict, by exact rational arithmetic, in a process that is not the sidecar's.

Both servers' answers are judged alike, straight from the definitions: is the input in the property's domain,
and does the answer meet the requirement? What the sidecar says about its own work plays no part.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from sidecar.demo.exchange import Exchange
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.values import Gate
from sidecar.tensors import Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Correction:
    """One row on which the model violated properties.

    Args:
        inputs, before, after: the situation, the model's scores, the scores that the client got.
        gates: what the model violated.
        decision: the decision id.
    """

    inputs: Rows
    before: Rows
    after: Rows
    gates: tuple[Gate, ...]
    decision: str

    @property
    def distance(self) -> float:
        """How far the scores were moved (Euclidean)."""
        return float(np.linalg.norm(self.after - self.before))


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What the demo found.

    Args:
        requests, answers: messages, and rows in them.
        in_domain: rows in some property's domain.
        corrections: the rows on which the model violated a property.
        violations_after: rows on which the client's answer did.
        fine: requests whose answer had no violation in it.
        identical: how many of those the client got to the byte.
        direct_p50_seconds, added_p50_seconds: requests of one row; the median of the differences, pair by pair.
    """

    requests: int
    answers: int
    in_domain: int
    corrections: tuple[Correction, ...]
    violations_after: int
    fine: int
    identical: int
    direct_p50_seconds: float
    added_p50_seconds: float

    @property
    def kept(self) -> bool:
        """Whether the sidecar kept its promises: no violation got through, and what was fine was not touched."""
        return self.violations_after == 0 and self.identical == self.fine


def judge(gates: Sequence[Gate], exchanges: Iterable[Exchange]) -> Verdict:
    """Judge every row of every answer. At least one exchange of one row."""
    seen = list(exchanges)
    corrections: list[Correction] = []
    in_domain = violations_after = fine = identical = 0
    for exchange in seen:
        found = [
            Correction(inputs, before, after, _violated(gates, inputs, before), exchange.guarded.decision)
            for inputs, before, after in zip(
                exchange.inputs, exchange.model_outputs, exchange.client_outputs, strict=True
            )
        ]
        in_domain += sum(any(_contains(gate, row) for gate in gates) for row in exchange.inputs)
        violations_after += sum(bool(_violated(gates, row.inputs, row.after)) for row in found)
        violating = [row for row in found if row.gates]
        corrections += violating
        fine += not violating
        identical += not violating and exchange.direct.content == exchange.guarded.content
    single = [exchange for exchange in seen if len(exchange.inputs) == 1]
    return Verdict(
        requests=len(seen),
        answers=sum(len(exchange.inputs) for exchange in seen),
        in_domain=in_domain,
        corrections=tuple(corrections),
        violations_after=violations_after,
        fine=fine,
        identical=identical,
        direct_p50_seconds=statistics.median(exchange.direct.seconds for exchange in single),
        added_p50_seconds=statistics.median(exchange.guarded.seconds - exchange.direct.seconds for exchange in single),
    )


def _contains(gate: Gate, inputs: Rows) -> bool:
    return any(region_contains(region, inputs) for region in gate.domain)


def _violated(gates: Sequence[Gate], inputs: Rows, outputs: Rows) -> tuple[Gate, ...]:
    return tuple(
        gate for gate in gates if _contains(gate, inputs) and not requirement_holds(gate.requirement, inputs, outputs)
    )
