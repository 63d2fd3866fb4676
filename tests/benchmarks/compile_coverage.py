"""How much of a domain is proved after how long, on the 41 meaningful violated ACAS Xu pairs.

One search for each pair, with the longest of the time limits; what it had settled at the shorter ones is read off on
the way, which is what a search with that limit gives. The truly violating share is sampled, with its confidence
interval.
"""

import time
from collections.abc import Sequence
from typing import Final

from sidecar.compiler.compiled import compiled_step
from sidecar.compiler.progress import Progress
from sidecar.compiler.rounding import declared_arithmetic
from sidecar.compiler.sampling import CONFIDENCE, sample
from sidecar.compiler.search import SearchLimits, partition
from sidecar.compiler.stated import in_box
from sidecar.gates.effective import effective_region
from sidecar.gates.values import Gate
from tests.benchmarks.public_sets import Instance, meaningful_violated_pairs

SAMPLING_SECONDS: Final = 600.0
"""Far more than the samples take: their number shall not depend on the clock."""

BAR_ALLOWANCE: Final = 0.001
GLOBAL: Final = ("prop_7", "prop_8")
"""Properties on most of the domain."""


def run(limits: Sequence[float], global_limits: Sequence[float], samples: int, smallest: float) -> None:
    """Print the section.

    Args:
        limits: seconds, ascending; for the pairs with property 2.
        global_limits: the same for those with properties 7 and 8.
        samples: per pair.
        smallest: share of a box below which an undecided leaf stays open.
    """
    compiled_step()  # loading it is no search's time
    pairs = meaningful_violated_pairs()
    if limits:
        local = [each for each in pairs if not each.name.endswith(GLOBAL)]
        print(f"\nCoverage against time: {len(local)} violated pairs with property 2, smallest leaf {smallest:g}")
        _head(limits)
        met = [_pair(each, limits, samples, smallest, bar=True) for each in local]
        print(f"   open volume at most twice the sampled violating share + 0.1 %: {sum(met)} of {len(met)} pairs")
    if global_limits:
        print(f"\nCoverage against time: properties on most of the domain, smallest leaf {smallest:g}")
        _head(global_limits)
        for each in pairs:
            if each.name.endswith(GLOBAL):
                _pair(each, global_limits, samples, smallest, bar=False)


def _head(limits: Sequence[float]) -> None:
    columns = "".join(f"{f'silent/violating/open at {limit:g} s':>38}" for limit in limits)
    print(f"   {'pair':<12}{columns}{'ended':>9}{'CPU':>9}{f'truly violating ({CONFIDENCE:.0%} interval)':>38}")


def _pair(each: Instance, limits: Sequence[float], samples: int, smallest: float, *, bar: bool) -> bool:
    model, (stated,) = each.read()
    (region,) = (effective_region(part, model.signature.input_datatypes()) for part in stated.domain)
    required = in_box(stated.requirement, region)
    began, used, states = time.monotonic(), time.process_time(), list[tuple[float, Progress]]()

    def keep(state: Progress) -> None:
        states.append((time.monotonic() - began, state))

    longest = SearchLimits(time_limit_seconds=limits[-1], minimum_volume=smallest)
    partition(model.network, region.box, required, declared_arithmetic(model.signature), longest, keep)
    ended, used = time.monotonic() - began, time.process_time() - used
    shares = [_at(limit, states) for limit in limits]
    gate = Gate(each.name, (region,), stated.requirement, stated.action, stated.margin, stated.norm, stated.fallback)
    (sampled,) = sample(model, (gate,), samples, SAMPLING_SECONDS)
    low, high = sampled.interval
    columns = "".join(f"{_three(state):>38}" for state in shares)
    opened = 1.0 - shares[-1].silent - shares[-1].violating
    met = opened <= 2 * sampled.share + BAR_ALLOWANCE
    print(
        f"   {each.name:<12}{columns}{ended:>7.1f} s{used:>7.1f} s{f'{sampled.share:.4%} ({low:.4%}, {high:.4%})':>38}"
        + ("" if met or not bar else "  open too large"),
        flush=True,
    )
    return met


def _at(limit: float, states: Sequence[tuple[float, Progress]]) -> Progress:
    """The last state that was known by then; the final one at the end, and where none was told yet."""
    if limit >= states[-1][0]:
        return states[-1][1]
    return [state for seconds, state in states if seconds <= limit or state is states[0][1]][-1]


def _three(state: Progress) -> str:
    return f"{state.silent:.3%} / {state.violating:.3%} / {1.0 - state.silent - state.violating:.3%}"
