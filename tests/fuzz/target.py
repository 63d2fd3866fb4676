"""What a fuzz target is, and how one input is run: a wrong answer, an escaped exception, too much time or memory are
findings.
"""

import dataclasses
import random
import resource
import time
from collections.abc import Callable, Sequence

LIMIT_BYTES = 64 << 20
"""By which one input may raise the process's peak memory. Inputs have some kilobytes."""


class Finding(AssertionError):
    """The product did what it must not do."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that takes bytes from outside.

    Args:
        check: raises on a wrong answer; what the product raises where it must not goes through.
        mutate: another input made from one, with the target's structure in mind.
        seeds: inputs of every kind that is accepted.
        limit_bytes: the longest input that is tried.
        limit_seconds: of processor time for one input, instrumented code that is measured on the way included.
    """

    name: str
    check: Callable[[bytes], None]
    mutate: Callable[[bytes, random.Random], bytes]
    seeds: Sequence[bytes]
    limit_bytes: int = 4096
    limit_seconds: float = 1.0


def run(target: Target, data: bytes) -> None:
    """Check one input within the limits.

    Raises:
        Finding: it took too long or too much. Whatever the check raises is a finding as well.
    """
    peak, started = _peak_bytes(), time.thread_time()
    target.check(data)
    seconds, more = time.thread_time() - started, _peak_bytes() - peak
    if seconds > target.limit_seconds:
        raise Finding(f"{target.name}: {seconds:.2f} s for {len(data)} bytes, at most {target.limit_seconds} s allowed")
    if more > LIMIT_BYTES:
        raise Finding(f"{target.name}: {more >> 20} MiB for {len(data)} bytes, at most {LIMIT_BYTES >> 20} MiB allowed")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def require(condition: bool, message: str) -> None:
    """A law of a target.

    Raises:
        Finding: it does not hold.
    """
    if not condition:
        raise Finding(message)
