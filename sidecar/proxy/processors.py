"""How many processors are ours: by affinity, and by the quota of our control group."""

import os
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")


def usable_processors(root: Path = _ROOT, own_group: Path = _OWN_GROUP) -> int:
    """The smaller of the two, rounded down, and at least one."""
    quotas = [quota for folder in _folders(root, own_group) if (quota := _quota(folder)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, quotas)]))


def _folders(root: Path, own_group: Path) -> list[Path]:
    """Our control group and those above it, as version 2 has them; and where version 1 has processors' quotas."""
    path = root
    try:
        text = own_group.read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        number, _, group = line.partition(":")
        if number == "0":
            path = root / group.removeprefix(":").lstrip("/")
    above = [path, *path.parents]
    return [*above[: above.index(root) + 1], root / "cpu", root / "cpu,cpuacct"]


def _quota(folder: Path) -> float | None:
    """Processors; None where there is no limit."""
    try:
        if (limits := folder / "cpu.max").exists():
            quota, period = limits.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
