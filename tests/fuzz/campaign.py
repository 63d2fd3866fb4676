"""Several targets fuzzed for some time each, and what came of it as a table.

    python -m tests.fuzz.campaign [--seconds N] [--keep] [TARGET ...]

New inputs and findings stay in ``.cache/fuzz``. ``--keep`` takes what reaches new code into the stored corpus
afterwards, smallest first.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from tests.fuzz.catalogue import CORPUS, NAMES

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "fuzz"
STARTING_SECONDS = 300
"""For what is not fuzzing: imports, and running the corpus once, on a machine under load."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One target's run.

    Args:
        coverage: branches of the product that were reached, as libFuzzer counts them.
        new_inputs: that reached more of them than the stored corpus.
        findings: the inputs that were findings.
        told: the end of what the process said, where there is a finding.
    """

    name: str
    executions: int
    coverage: int
    new_inputs: int
    findings: tuple[Path, ...]
    told: str


def fuzz(name: str, seconds: int, work: Path = WORK) -> Result:
    """Fuzz one target in a process of its own.

    Raises:
        RuntimeError: it ended otherwise than by its time or by a finding.
    """
    new, findings = work / name / "new", work / name / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    known = set(findings.iterdir())
    finished = _run(
        name, new, [f"-max_total_time={seconds}", f"-artifact_prefix={findings}/", str(CORPUS / name)], seconds
    )
    return result(name, finished, set(findings.iterdir()) - known)


def result(name: str, finished: subprocess.CompletedProcess[str], findings: Collection[Path]) -> Result:
    """A run, by what libFuzzer said and what it found.

    Raises:
        RuntimeError: it ended otherwise than by its time or by a finding.
    """
    if finished.returncode and not findings:
        raise RuntimeError(f"fuzzing {name} ended with {finished.returncode}:\n{finished.stdout[-4000:]}")
    return Result(
        name,
        executions=_last(r"^#(\d+)", finished.stdout),
        coverage=_last(r"\bcov: (\d+)", finished.stdout),
        new_inputs=_last(r"stat::new_units_added:\s+(\d+)", finished.stdout),
        findings=tuple(sorted(findings)),
        told=_trace(finished.stdout) if findings else "",
    )


def _run(name: str, folder: Path, options: Sequence[str], seconds: int) -> subprocess.CompletedProcess[str]:
    return run(
        [sys.executable, "-m", "tests.fuzz.one", name, str(folder), *options],
        ROOT,
        seconds + STARTING_SECONDS,
        OPENBLAS_NUM_THREADS="1",
        PYTHONPATH=str(ROOT),
    )


def run(
    command: Sequence[str], folder: Path, timeout_seconds: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A fuzzer's process, and all that it says."""
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=timeout_seconds,
        check=False,
    )


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text, re.MULTILINE)
    return int(found[-1]) if found else 0


def _trace(text: str) -> str:
    """From the exception or the panic on; without the progress before it."""
    found = re.search("Uncaught Python exception|panicked at", text)
    return text[found.start() if found else 0 :][:4000]


def table(results: Sequence[Result]) -> str:
    """The results as a table."""
    lines = [f"{'target':<15}{'executions':>12}{'coverage':>10}{'new inputs':>12}{'findings':>10}"]
    lines += [
        f"{each.name:<15}{each.executions:>12}{each.coverage:>10}{each.new_inputs:>12}{len(each.findings):>10}"
        for each in results
    ]
    return "\n".join(lines)


def fuzz_all(names: Sequence[str], fuzz_one: Callable[[str], Result]) -> list[Result]:
    """Fuzz several targets, as many at once as there are processors; what came of it is printed."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        results = list(pool.map(fuzz_one, names))
    print(table(results))
    for each in results:
        if each.findings:
            print(f"\n{each.name}: {', '.join(map(str, each.findings))}\n{each.told}")
    return results


def keep(name: str, work: Path = WORK) -> int:
    """Take those new inputs into the stored corpus that reach something none of it reaches; how many they were."""
    before = len(list((CORPUS / name).iterdir()))
    finished = _run(name, CORPUS / name, ["-set_cover_merge=1", str(work / name / "new")], 600)
    if finished.returncode:
        raise RuntimeError(f"merging {name} ended with {finished.returncode}:\n{finished.stdout[-4000:]}")
    return len(list((CORPUS / name).iterdir())) - before


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz what takes bytes from outside.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="take new inputs into the stored corpus")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(NAMES)}; all where none")
    arguments = parser.parse_args()
    results = fuzz_all(arguments.targets or NAMES, lambda name: fuzz(name, arguments.seconds))
    if arguments.keep:
        for each in results:
            print(f"{each.name}: {keep(each.name)} inputs kept")
    return int(any(each.findings for each in results))


if __name__ == "__main__":
    sys.exit(main())
