"""What the servers made of the cases, for a person: a table, what is not applicable by reason, what failed."""

import collections
from collections.abc import Iterator, Sequence

from tests.e2e.conformance.playing import Verdict
from tests.e2e.conformance.product import Share

ROW = "{:<20}{:<8}{:>7}{:>8}{:>18}{:>16}{:>8}"


def lines_of(shares: Sequence[Share]) -> Iterator[str]:
    """The table's lines, none longer than 100 columns but where a server's own words are."""
    yield ROW.format("server", "asked", "cases", "passed", "server refuses", "not applicable", "failed")
    for share in shares:
        counts = [len(share.of(verdict)) for verdict in Verdict]
        yield ROW.format(share.server, share.way, len(share.results), *counts)
    for verdict in (Verdict.NOT_APPLICABLE, Verdict.SERVER_REFUSED):
        yield from _reasons(shares, verdict)
    for share in shares:
        for result in share.of(Verdict.FAILED):
            yield f"FAILED {share.server} {share.way} {result.case}: {result.why.strip()}"


def _reasons(shares: Sequence[Share], verdict: Verdict) -> Iterator[str]:
    counts = collections.Counter(result.why for share in shares for result in share.of(verdict))
    if counts:
        yield f"\n{verdict}, by reason:"
    for why, count in counts.most_common():
        yield f"{count:>6}  {why}"
