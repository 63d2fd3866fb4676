"""The sidecar's counters beside what the clients saw: each failure that a client met stands in them, under its reason.

A call whose deadline passes ends on the client's side with a status of the client's own library and without trailers,
while the sidecar counts it as cancelled, or by the reason that came too late, or as answered. So: a reason that
clients read is counted as often at least; what is counted beyond that is explained by calls that ended with a status
of the client's own; and there are no more of these than that. Answers within streams do not say what became of them:
only their number is compared.
"""

import collections
import dataclasses

from prometheus_client.parser import text_string_to_metric_families

from tests.drill.model import MODEL
from tests.drill.seen import Seen
from tests.e2e.guarding import RunningSidecar

CANCELLED = "cancelled"


@dataclasses.dataclass(frozen=True)
class Counters:
    """The sidecar's counters at one moment, by the labels that matter."""

    outcomes: collections.Counter[str]
    reasons: collections.Counter[str]
    breaches: int
    corrected_rows: int
    activations: int


def read_counters(sidecar: RunningSidecar) -> Counters:
    """Scrape them."""
    outcomes, reasons = collections.Counter[str](), collections.Counter[str]()
    sums = collections.Counter[str]()
    for family in text_string_to_metric_families(sidecar.get("/metrics")[1]):
        for sample in family.samples:
            if sample.name == "gate_requests_total":
                outcomes[sample.labels["outcome"]] += int(sample.value)
            elif sample.name == "gate_refusals_total":
                reasons[sample.labels["reason"]] += int(sample.value)
            elif sample.labels.get("model") == MODEL:
                sums[sample.name] += int(sample.value)
    return Counters(
        outcomes,
        reasons,
        breaches=sums["gate_breaches_total"],
        corrected_rows=sums["gate_corrections_total"],
        activations=sums["gate_bundle_activations_total"],
    )


@dataclasses.dataclass(frozen=True)
class Balance:
    """How the two accounts differ.

    Args:
        missing: what clients saw and the sidecar did not count.
        unexplained: what stands in one of the accounts only, and no deadline explains.
    """

    missing: dict[str, int]
    unexplained: int

    @property
    def unaccounted(self) -> int:
        """Failures and answers that one of the accounts lacks."""
        return sum(self.missing.values()) + self.unexplained


def balance(before: Counters, after: Counters, seen: Seen, unreached: frozenset[str]) -> Balance:
    """Compare what happened between two readings.

    Args:
        unreached: status codes of calls that could not reach the sidecar, such as over TLS that ended: the sidecar
            cannot have counted them.
    """
    refused = {"refused", "failed"}
    counted = collections.Counter(
        {name: after.outcomes[name] - before.outcomes[name] for name in after.outcomes if name not in refused}
    )
    counted += collections.Counter({name: after.reasons[name] - before.reasons[name] for name in after.reasons})
    told = seen.outcomes + seen.reasons
    missing = dict(told - counted)
    late = (counted - told).total() - seen.streamed
    bare = sum(count for code, count in seen.bare.items() if code not in unreached)
    # The sidecar counts a streamed request as failed, answered or not, if the stream breaks before the upstream says
    # that it is over; there is one request at a time.
    return Balance(missing, max(0, abs(bare - late) - seen.broken_streams))
