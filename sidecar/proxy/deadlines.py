"""How long the upstream may take over a request."""

from sidecar.config import ModelPolicy


def upstream_seconds(policy: ModelPolicy | None, left_seconds: float, reserve_seconds: float) -> float:
    """The upstream's time; never negative.

    Args:
        policy: of the model; None for one that nobody guards.
        left_seconds: until whoever waits gives up.
        reserve_seconds: what is kept for an answer without the upstream; never more than half of what is left.
    """
    left_seconds = max(left_seconds, 0.0)
    seconds = left_seconds - min(reserve_seconds, left_seconds / 2)
    own = None if policy is None else policy.upstream_timeout_seconds
    return seconds if own is None else min(seconds, own)
