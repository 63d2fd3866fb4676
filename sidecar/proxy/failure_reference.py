"""The reference page of what can go wrong, ``deploy/reference/failures.md``: ``sidecar config failures`` prints it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sidecar.proxy.failure_table import CALLERS_CODES, FAILURES, FailureRow, Fault

_HEAD: Final = """\
# What can go wrong with a request, and what becomes of it

<!-- Written by `sidecar config failures`; a test compares it with the code. -->

The default is to fail closed: the client gets the status below, its details begin with the reason, and the trailer
`gate-reason` has it alone (on a stream it is an error within the stream). Each is counted in
`gate_refusals_total{model,reason}`; denied methods in `gate_denied_calls_total{rule}`. Two settings change that, each
only where its column says so.

**`failure_mode: open`** (for single models, under `models:`) lets the upstream's answer through where nobody can judge
it: `gate-outcome: bypassed`, counted in `gate_bypassed_total{model,reason}`, with a line in the audit log;
`gate_failure_mode_open{model}` is 1 for as long as it is set, so that it can be alerted on. A violation that can be
seen never passes: where a guarded output is missing, the properties are still judged as far as the others tell. What a
client can bring about is not open to it (such as an answer without the guarded outputs, of a version of its choice that
the bundle does not name), nor is what a gate decided, an answer that two readers may read differently,
or a defect of the sidecar's.

**`on_upstream_failure: fallback`** (for all models, or for single ones) answers with the properties' fallbacks:
`gate-outcome: fallback`, counted in `gate_fallbacks_total{model,reason}`, with a line in the audit log. Only where that
is right: every row lies in the domain of an enforced property with a fallback that satisfies all enforced properties
of the row, and the client asked for guarded outputs only (one that names none gets those of the verified model);
otherwise the error stays. The upstream's time ends `fallback_reserve` before the client's deadline, and after the
model's `upstream_timeout` where that is sooner. On a stream each request that has no response by then is answered;
where the upstream's stream breaks off, those without a response are, and then the stream ends with the error. Where
both settings apply, the fallback comes first.
"""

_NOTES: Final = """\
An error of the upstream's own keeps its status. With one of {codes} it tells the caller of a
mistake: the client gets the upstream's text and metadata too, and no fallback stands in for it. So it does with
`UNIMPLEMENTED` and `RESOURCE_EXHAUSTED`, for which a fallback may stand in. Other texts may show
paths and traces: the client gets a fixed one, and the log and the audit record have the upstream's (`upstream_words:
all` gives clients everything, except of TorchServe). An error within a stream has no status: in doubt it is a failure.

A request for a model without a bundle is denied, or passed where `unguarded_models` is `pass`: `gate-outcome:
unguarded`, counted in `gate_requests_total{{outcome="unguarded"}}` without the model's name (clients choose it), logged
once for each of the first hundred names, which `/status` lists. It is never passed while any bundle is awaited or not
acceptable that may be for it (unless that model's failure mode is open), nor under a name that some server could take
for a guarded model's. What the sidecar cannot know is that the upstream serves a guarded model under another name, or
inside an ensemble: that is why such models are denied unless you say otherwise.

A bundle may name the versions of its model (`sidecar compile --model-version`). An answer of another version, or of
one that nobody names, is judged like any other; its rows count as `region="unproved"`, and a violation there is no
breach. The version in the answer counts, else the one in the request. A bundle that names no versions makes no
distinction.
"""


def reference() -> str:
    """The page, in Markdown."""
    head = ("reason", "whose fault", "status", "what happened", "`failure_mode: open`", "`fallback`")
    codes = ", ".join(f"`{code.name}`" for code in CALLERS_CODES)
    return "\n".join([_HEAD, *_table(head, map(_row, FAILURES.values())), "", _NOTES.format(codes=codes).rstrip(), ""])


def _row(row: FailureRow) -> Sequence[str]:
    status = "the upstream's own" if row.code is None else f"`{row.code.name}`"
    return (
        f"`{row.reason}`",
        _whose(row.fault),
        status,
        row.cause,
        _open(row),
        "answers" if row.falls_back else "error",
    )


def _whose(fault: Fault) -> str:
    return "none: a gate's decision" if fault is Fault.GATE else f"the {fault}'s"


def _open(row: FailureRow) -> str:
    return "passes" if row.passes_open else "error"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
