"""What a soak measures of the sidecar's process, and when that counts as flat."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

FIFTHS = 5
RSS_SLACK_MIB = 24.0
"""How much the median of the last fifth may lie above that of the second (the first warms up: allocators, caches)."""

DESCRIPTOR_SLACK = 16
"""Connections come and go; what grows would be far beyond it in half an hour."""

P99_FACTOR = 1.5
"""Of the last fifth's p99 to the first's; the machine's own noise over minutes is below it."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The sidecar's process at one moment; ``at`` by the monotonic clock."""

    at: float
    rss_mib: float
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """From /proc."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rss, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
    return Sample(time.monotonic(), rss, len(os.listdir(f"/proc/{pid}/fd")), threads)


@dataclasses.dataclass(frozen=True)
class Soak:
    """All that was measured.

    Args:
        latencies: when each answer came and how many seconds it took.
    """

    samples: Sequence[Sample]
    latencies: Sequence[tuple[float, float]]
    began: float
    ended: float

    def fifth_of(self, at: float) -> int:
        """0 to 4."""
        return min(FIFTHS - 1, int(FIFTHS * (at - self.began) / (self.ended - self.began)))

    def rss_mib(self, fifth: int) -> float:
        """Median."""
        return float(np.median([each.rss_mib for each in self._samples(fifth)]))

    def descriptors(self, fifth: int) -> int:
        """The most."""
        return max(each.descriptors for each in self._samples(fifth))

    def threads(self, fifth: int) -> int:
        """The most."""
        return max(each.threads for each in self._samples(fifth))

    def milliseconds(self, fifth: int, percentile: float) -> float:
        """Of the unary answers; infinite where there was none."""
        seconds = [seconds for at, seconds in self.latencies if self.fifth_of(at) == fifth]
        return 1000 * float(np.percentile(seconds, percentile)) if seconds else np.inf

    def rate(self, fifth: int) -> float:
        """Unary answers a second."""
        return sum(self.fifth_of(at) == fifth for at, _ in self.latencies) * FIFTHS / (self.ended - self.began)

    def _samples(self, fifth: int) -> list[Sample]:
        return [each for each in self.samples if self.fifth_of(each.at) == fifth]


def table(soak: Soak) -> str:
    """One line for each fifth of the time."""
    lines = [f"{'fifth':<8}{'answers/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'RSS MiB':>10}{'descriptors':>13}{'threads':>9}"]
    for fifth in range(FIFTHS):
        p50, p99 = (soak.milliseconds(fifth, percentile) for percentile in (50, 99))
        numbers = f"{soak.rate(fifth):>11.0f}{p50:>9.1f}{p99:>9.1f}{soak.rss_mib(fifth):>10.1f}"
        lines.append(f"{fifth + 1:<8}{numbers}{soak.descriptors(fifth):>13}{soak.threads(fifth):>9}")
    return "\n".join(lines)


def broken(soak: Soak) -> list[str]:
    """What was not at the end as at the start."""
    found, last = [], FIFTHS - 1
    found += [f"no answer in fifth {fifth + 1}" for fifth in range(FIFTHS) if soak.rate(fifth) == 0]
    if (growth := soak.rss_mib(last) - soak.rss_mib(1)) > RSS_SLACK_MIB:
        found.append(
            f"memory grew by {growth:.1f} MiB from the second fifth to the last; {RSS_SLACK_MIB:g} are allowed"
        )
    if (more := soak.descriptors(last) - soak.descriptors(0)) > DESCRIPTOR_SLACK:
        found.append(f"{more} descriptors more in the last fifth than in the first; {DESCRIPTOR_SLACK} are allowed")
    if (factor := soak.milliseconds(last, 99) / soak.milliseconds(0, 99)) > P99_FACTOR:
        found.append(f"p99 is {factor:.2f} times what it was; {P99_FACTOR:g} are allowed")
    return found
