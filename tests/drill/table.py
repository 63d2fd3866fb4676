"""The drill's table."""

import collections
from collections.abc import Sequence

from tests.drill.harness import Report

HOW = """
requests, ok, corrected: by the clients. failed: by the reason that clients read and the sidecar's counters confirm;
in brackets, errors of the clients' own library (a deadline that passed, TLS that could not be had). violating: answers
that break the property, in exact rational arithmetic. unaccounted: what stands in one of the two accounts only.
recovery: from the end of the fault to the end of the last failed call; 0.0 where none failed after it."""

HEAD = (
    f"{'scenario':<24}{'requests':>9}{'ok':>8}{'corrected':>11}{'breaches':>10}{'violating':>11}{'crashes':>9}"
    f"{'unaccounted':>13}{'recovery s':>12}  failed, by reason"
)


def row(report: Report) -> str:
    """One scenario."""
    if report.not_run:
        return f"{report.name:<24} NOT RUN: {report.not_run}"
    seen = report.seen
    numbers = (
        f"{seen.answered + seen.failed:>9}{seen.answered:>8}{seen.outcomes['corrected']:>11}{report.breaches:>10}"
        f"{len(seen.violating):>11}{report.crashes:>9}{report.balance.unaccounted:>13}{report.recovery_seconds:>12.1f}"
    )
    return f"{report.name:<24}{numbers}  {_failed(report)}{'' if is_kept(report) else '  <-- BROKEN'}"


def _failed(report: Report) -> str:
    reasons = [f"{reason} {count}" for reason, count in sorted(report.seen.reasons.items())]
    return ", ".join(reasons + [f"[{code} {count}]" for code, count in sorted(report.seen.bare.items())]) or "none"


def is_kept(report: Report) -> bool:
    """Whether every promise held."""
    return not (report.broken or report.crashes or report.balance.unaccounted or report.seen.violating)


def details(reports: Sequence[Report]) -> str:
    """What the columns mean, what broke, and what did not run."""
    lines = [HOW]
    for report in reports:
        lines += [f"BROKEN: {report.name}: {each}" for each in report.broken]
        if report.balance.unaccounted:
            lines.append(f"BROKEN: {report.name}: {report.balance} beside {dict(report.seen.bare)}")
    ran = [report for report in reports if not report.not_run]
    totals = collections.Counter[str]()
    for report in ran:
        totals += collections.Counter(
            requests=report.seen.answered + report.seen.failed,
            corrected=report.seen.outcomes["corrected"],
            failed=report.seen.failed,
            violating=len(report.seen.violating),
            crashes=report.crashes,
            unaccounted=report.balance.unaccounted,
        )
    words = ", ".join(
        f"{totals[name]:,} {name}" for name in ("requests", "corrected", "failed", "violating", "crashes")
    )
    lines.append(f"\n{len(ran)} scenarios: {words}, {totals['unaccounted']} unaccounted.")
    if len(ran) < len(reports):
        lines.append(f"{len(reports) - len(ran)} SCENARIOS NOT RUN: see above.")
    return "\n".join(lines)


def verdict(reports: Sequence[Report]) -> int:
    """The exit status: 0, or 1 where a promise did not hold."""
    return 0 if all(is_kept(report) for report in reports) else 1
