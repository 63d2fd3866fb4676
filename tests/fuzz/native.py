"""The laws of the Rust crate ``gate``, held to by libFuzzer for some time each, and what came of it as a table.

    python -m tests.fuzz.native [--seconds N] [TARGET ...]

The targets are ``sidecar/native/gate/fuzz``; readers of messages begin with those that Python's fuzzing begins with.
Where cargo-fuzz or what it needs is not installed, that is said, and it ends with 0. New inputs and findings stay in
``.cache/fuzz-native``.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from tests.fuzz.campaign import ROOT, STARTING_SECONDS, Result, fuzz_all, result, run
from tests.fuzz.catalogue import load, stored

CRATE = ROOT / "sidecar" / "native" / "gate"
WORK = ROOT / ".cache" / "fuzz-native"
MESSAGES = {"request": 1, "response": 2}
"""Targets that take messages, and how many bytes stand before one where Python's fuzzing takes it."""
NAMES = (*MESSAGES, "arriving", "filter", "boxes")
NEEDED = (
    (("cargo", "--version"), "cargo is not installed"),
    (("cargo", "fuzz", "--version"), "cargo-fuzz is not installed (cargo install cargo-fuzz --locked)"),
    (("rustup", "run", "nightly", "rustc", "--version"), "no nightly toolchain (rustup toolchain install nightly)"),
    (("cargo", "fetch", "--locked", "--manifest-path", "fuzz/Cargo.toml"), "its crates cannot be had"),
)


def missing() -> str | None:
    """What keeps the targets from being built here."""
    return next((words for command, words in NEEDED if not _succeeds(command)), None)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, cwd=CRATE, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def fuzz(name: str, seconds: int) -> Result:
    """Fuzz one target that is built.

    Raises:
        RuntimeError: it ended otherwise than by its time or by a finding.
    """
    new, first, findings = (WORK / name / folder for folder in ("new", "seeds", "findings"))
    for folder in (new, first, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for at, seed in enumerate(seeds(name)):
        (first / f"{at}").write_bytes(seed)
    known = set(findings.iterdir())
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={findings}/", "-print_final_stats=1"]
    if name not in MESSAGES:
        options += ["-max_len=512", "-len_control=0"]  # a case takes some hundred bytes; below, most of it is zeros
    command = [*_cargo_fuzz("run"), name, str(new), str(first), "--", *options]
    finished = run(command, CRATE, seconds + STARTING_SECONDS)
    return result(name, finished, set(findings.iterdir()) - known)


def seeds(name: str) -> list[bytes]:
    """Messages to begin with; none for targets that take something else."""
    if name not in MESSAGES:
        return []
    before = MESSAGES[name]
    return [seed[before:] for seed in (*load(name).seeds, *(path.read_bytes() for path in stored(name)))]


def _cargo_fuzz(command: str) -> list[str]:
    # No sanitizer: what they find takes unsafe code, and the crate has none.
    return ["cargo", "+nightly", "fuzz", command, "--sanitizer", "none", "--target-dir", str(WORK / "target")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz what the native transport decides by itself.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(NAMES)}; all where none")
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        print(f"NOT RUN: fuzzing of the native gates; {reason}")
        return 0
    subprocess.run(_cargo_fuzz("build"), cwd=CRATE, check=True)
    results = fuzz_all(arguments.targets or NAMES, lambda name: fuzz(name, arguments.seconds))
    return int(any(each.findings for each in results))


if __name__ == "__main__":
    sys.exit(main())
