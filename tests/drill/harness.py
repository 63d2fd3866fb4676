"""One scenario: load before, during and after a fault, and what has to be true of it.

A scenario brings the servers up and says how its fault begins and ends (:class:`Rig`); all else is the same for each:
answers are judged, both accounts compared, and nobody helps the sidecar to recover.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.proxy.transport import TransportKind
from tests.drill.ground import Ground, NotRun
from tests.drill.ledger import Balance, Counters, balance, read_counters
from tests.drill.load import Load, running_load
from tests.drill.seen import ClientOptions, Seen
from tests.e2e.guarding import RunningSidecar
from tests.e2e.installing import ServerUnavailable

BEFORE_SECONDS = 1.5
CALM_SECONDS = 1.5
"""So long nothing may fail before the sidecar counts as recovered."""

RECOVERY_LIMIT_SECONDS = 15.0
LEAST_ANSWERS = 50


def _nothing(_: "Report") -> str:
    return ""


@dataclasses.dataclass(frozen=True)
class Rig:
    """Everything up and ready, and how the fault goes.

    Args:
        strike: brings the fault about; it may take its time.
        heal: ends it. Never touches the sidecar.
        fault_seconds: between the two.
        reasons: under which the failures have to be counted; at least one of each call that fails.
        unreached: status codes of calls that cannot reach the sidecar in this scenario.
        proves: why the run proves nothing, such as that the fault did not bite; empty where it did.
    """

    sidecar: RunningSidecar
    clients: ClientOptions
    strike: Callable[[], None]
    heal: Callable[[], None]
    fault_seconds: float = 2.5
    reasons: frozenset[str] = frozenset()
    unreached: frozenset[str] = frozenset()
    proves: Callable[["Report"], str] = _nothing


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a scenario on a transport.

    Args:
        not_run: why it did not run; empty where it did.
        broken: promises that did not hold.
    """

    name: str
    transport: TransportKind
    not_run: str = ""
    seen: Seen = dataclasses.field(default_factory=Seen)
    before: Counters | None = None
    after: Counters | None = None
    balance: Balance = dataclasses.field(default_factory=lambda: Balance({}, 0))
    crashes: int = 0
    recovery_seconds: float = 0.0
    broken: tuple[str, ...] = ()

    @property
    def breaches(self) -> int:
        """Violations in regions that were proved silent."""
        return 0 if self.after is None or self.before is None else self.after.breaches - self.before.breaches


Scenario = Callable[[Ground, Path], contextlib.AbstractContextManager[Rig]]


def run(name: str, scenario: Scenario, ground: Ground, folder: Path) -> Report:
    """Run one scenario in an empty folder."""
    folder.mkdir()
    report = Report(name, ground.transport, crashes=1, broken=("it did not come to an end",))
    try:
        ground.require_transport()
        with scenario(ground, folder) as rig:
            report = _drilled(name, rig, ground)
    except (NotRun, ServerUnavailable) as error:
        return Report(name, ground.transport, not_run=str(error))
    except (AssertionError, OSError) as error:  # the sidecar did not start, is gone, or did not end with 0
        return dataclasses.replace(report, crashes=1, broken=(*report.broken, f"{type(error).__name__}: {error}"))
    log = folder / "sidecar.log"
    if log.exists() and "Traceback" in log.read_text(errors="replace"):
        return dataclasses.replace(report, broken=(*report.broken, f"a traceback in {log}"))
    return report


def _drilled(name: str, rig: Rig, ground: Ground) -> Report:
    before = read_counters(rig.sidecar)
    load = Load(rig.sidecar.address, ground.requests, ground.guarded.judge, rig.clients)
    broken = []
    with running_load(load):
        time.sleep(BEFORE_SECONDS)
        if load.seen.failed or load.seen.answered < LEAST_ANSWERS:
            broken.append(f"before the fault {load.seen.answered} answers, failures {dict(load.seen.reasons)}")
        rig.strike()
        time.sleep(rig.fault_seconds)
        rig.heal()
        healed = time.monotonic()
        recovered = _wait_until_calm(load.seen, healed)
    crashes = 0 if _is_alive(rig.sidecar) else 1
    after = read_counters(rig.sidecar)
    report = Report(
        name=name,
        transport=ground.transport,
        seen=load.seen,
        before=before,
        after=after,
        balance=balance(before, after, load.seen, rig.unreached),
        crashes=crashes,
        recovery_seconds=max(0.0, load.seen.last_failure - healed),
    )
    if not recovered:
        broken.append(f"it did not recover within {RECOVERY_LIMIT_SECONDS:g} s")
    return dataclasses.replace(report, broken=(*broken, *_broken(rig, report)))


def _wait_until_calm(seen: Seen, healed: float) -> bool:
    while (now := time.monotonic()) < healed + RECOVERY_LIMIT_SECONDS:
        quiet_since = max(healed, seen.last_failure)
        if now - quiet_since >= CALM_SECONDS and now - seen.last_answer < CALM_SECONDS / 3:
            return True
        time.sleep(0.02)
    return False


def _is_alive(sidecar: RunningSidecar) -> bool:
    """The process that was started; nobody starts another one."""
    with contextlib.suppress(OSError):
        return sidecar.get("/livez")[0] == 200 and Path(f"/proc/{sidecar.pid}").exists()
    return False


def _broken(rig: Rig, report: Report) -> list[str]:
    """Every promise that the scenario did not see kept, in words."""
    seen = report.seen
    found = [f"a violation on the wire: {each}" for each in seen.violating[:3]]
    found += [f"an answer to another question: {each}" for each in seen.strange[:3]]
    if seen.hanging:
        found.append(f"{seen.hanging} clients whose calls did not end")
    found += [f"shown to a client: {each}" for each in sorted(seen.leaks)[:3]]
    if other := seen.reasons.keys() - rig.reasons:
        found.append(f"reasons that this fault does not explain: {sorted(other)}")
    if missing := rig.reasons - seen.reasons.keys():
        found.append(f"the fault did not show as {sorted(missing)}: this run proves nothing of them")
    known = set(rig.unreached) | ({"DEADLINE_EXCEEDED"} if rig.clients.deadline_seconds else set())
    if unknown := seen.bare.keys() - known:
        found.append(f"errors without a reason: {sorted(unknown)}")
    if not seen.outcomes["corrected"]:
        found.append("nothing was corrected: this run proves nothing")
    if "without a word" in seen.outcomes:
        found.append(f"{seen.outcomes['without a word']} answers without a {'gate-outcome'}")
    found += _broken_afterwards(rig.sidecar)
    return found + [each for each in [rig.proves(report)] if each]


def _broken_afterwards(sidecar: RunningSidecar) -> list[str]:
    """What must be so again once the load is over."""
    status, why = sidecar.get("/readyz")
    found = [] if status == 200 else [f"not ready afterwards: {why}"]
    held = {name: gauge(sidecar, name) for name in ("gate_calls_in_flight", "gate_held_bytes")}
    return found + [f"{name} is {left:g} with no call in flight" for name, left in held.items() if left]


def gauge(sidecar: RunningSidecar, name: str) -> float:
    """A metric without labels."""
    lines = sidecar.get("/metrics")[1].splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def status_of(sidecar: RunningSidecar) -> dict:
    """What /status says."""
    return json.loads(sidecar.get("/status")[1])
