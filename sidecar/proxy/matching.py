"""What a bundle has to show before it displaces another: that the upstream matches it, where that is required.

Who probes is told, and how long it takes does not matter here: nothing of it is on the request path.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from sidecar.config import Probing
from sidecar.errors import Reason
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.probing import ProbeResult, Verdict
from sidecar.proxy.succession import Failure, Guard, Succession

Prober: TypeAlias = Callable[[ActiveBundle], Verdict]
"""Probes the upstream for a bundle that is to become active; takes a while."""

_NOT_MATCHED: Final = {
    ProbeResult.MISMATCH: "the upstream does not answer its vectors as its verified model does; the bundle before "
    "stays active until it does: serve that model, or take the bundle away (the log has the answer)",
    ProbeResult.UNASKED: "the upstream could not be tried on its vectors, as probe: required asks; the one before "
    "stays active until they match (the log says what happened)",
}
"""The same words at each look, so that it is the same failure."""


def not_probed(_: ActiveBundle) -> Verdict:
    """A prober for when there is no upstream to ask yet."""
    return Verdict(ProbeResult.UNASKED, "the upstream has not been probed yet")


def require_matches(guards: Mapping[str, Guard], after: Succession, probe: Prober) -> Succession:
    """The succession without those new bundles that have to match the upstream first, and do not.

    What is active stays so. A model's first bundle becomes active all the same: it guards, and is withheld until then.
    """
    kept, failures = dict(after.guards), list(after.failures)
    for model, guard in after.guards.items():
        active = guards.get(model)
        if active is None or active.bundle.digest == guard.bundle.digest:
            continue
        if guard.bundle.policy.probe is not Probing.REQUIRED:
            continue
        verdict = probe(guard.bundle)
        if verdict.result is not ProbeResult.MATCH:
            kept[model] = active
            failures.append(Failure(guard.place, Reason.BUNDLE_PROBE, _NOT_MATCHED[verdict.result], model))
    return Succession(kept, tuple(failures))
