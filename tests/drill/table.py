"""The drill's table."""

from collections.abc import Mapping, Sequence

from tests.drill.harness import Report

HOW = """
requests, ok, corrected: by the clients. failed: by the reason that clients read and the sidecar's counters confirm;
in brackets, errors of the clients' own library (a deadline that passed, TLS that could not be had). violating: answers
that break the property, in exact rational arithmetic. unaccounted: what stands in one of the two accounts only.
recovery: from the end of the fault to the end of the last failed call; 0.0 where none failed after it."""

HEAD = (
    f"{'scenario':<24}{'transport':<10}{'requests':>9}{'ok':>8}{'corrected':>11}{'breaches':>10}{'violating':>11}{'crashes':>9}"
    f"{'unaccounted':>13}{'recovery s':>12}  failed, by reason"
)


def row(report: Report) -> str:
    """One scenario."""
    what = f"{report.name:<24}{report.transport:<10}"
    if report.not_run:
        return f"{what} NOT RUN: {report.not_run}"
    seen = report.seen
    numbers = (
        f"{seen.answered + seen.failed:>9}{seen.answered:>8}{seen.outcomes['corrected']:>11}{report.breaches:>10}"
        f"{len(seen.violating):>11}{report.crashes:>9}{report.balance.unaccounted:>13}{report.recovery_seconds:>12.1f}"
    )
    return f"{what}{numbers}  {_failed(report)}{'' if is_kept(report) else '  <-- BROKEN'}"


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
        which = f"{report.name}, {report.transport}"
        lines += [f"BROKEN: {which}: {each}" for each in report.broken]
        if report.balance.unaccounted:
            lines.append(f"BROKEN: {which}: {report.balance} beside {dict(report.seen.bare)}")
    return "\n".join([*lines, "", *_columns(_by_transport(reports))])


def _by_transport(reports: Sequence[Report]) -> dict[str, list[Report]]:
    found: dict[str, list[Report]] = {}
    for report in reports:
        found.setdefault(report.transport, []).append(report)
    return found


def _columns(by_transport: Mapping[str, Sequence[Report]]) -> list[str]:
    """The totals, with a column for each transport."""
    totals = [_totals(reports) for reports in by_transport.values()]
    lines = [f"{'':<24}" + "".join(f"{transport:>12}" for transport in by_transport)]
    return lines + [f"{name:<24}" + "".join(f"{each[name]:>12,}" for each in totals) for name in totals[0]]


def _totals(reports: Sequence[Report]) -> dict[str, int]:
    ran = [report for report in reports if not report.not_run]
    return {
        "scenarios": len(ran),
        "SCENARIOS NOT RUN": len(reports) - len(ran),
        "scenarios broken": sum(not is_kept(report) for report in ran),
        "requests": sum(report.seen.answered + report.seen.failed for report in ran),
        "corrected": sum(report.seen.outcomes["corrected"] for report in ran),
        "failed": sum(report.seen.failed for report in ran),
        "violating": sum(len(report.seen.violating) for report in ran),
        "crashes": sum(report.crashes for report in ran),
        "unaccounted": sum(report.balance.unaccounted for report in ran),
    }


def verdict(reports: Sequence[Report]) -> int:
    """The exit status: 0, 1 where a promise did not hold, 2 where nothing ran on a transport."""
    if not all(is_kept(report) for report in reports):
        return 1
    return 2 if any(all(report.not_run for report in each) for each in _by_transport(reports).values()) else 0
