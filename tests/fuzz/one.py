"""One target under atheris, in a process of its own: libFuzzer ends the process when it is done.

python -m tests.fuzz.one TARGET NEW_INPUTS_FOLDER [libFuzzer's options and further corpus folders]
"""

import hashlib
import random
import shlex
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sidecar"], enable_loader_override=False):
    from tests.fuzz.catalogue import load
    from tests.fuzz.target import run

    TARGET = load(sys.argv[1])


def _mutated(data: bytes, limit_bytes: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if rng.random() < 0.1:
        return atheris.Mutate(data, limit_bytes)
    changed = TARGET.mutate(data, rng)
    return changed if len(changed) <= limit_bytes else data


def _write_seeds(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in TARGET.seeds:
        (folder / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)


def main() -> None:
    name, folder, *options = sys.argv[1:]
    if not any("merge" in option for option in options):
        _write_seeds(Path(folder))
    for seed in TARGET.seeds:
        run(TARGET, seed)  # what is allocated once for all is not one input's doing
    # A merge starts this program again, by the first of these words and a shell.
    again = shlex.join([sys.executable, "-m", "tests.fuzz.one", name, folder])
    limits = [f"-max_len={TARGET.limit_bytes}", "-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([again, *limits, folder, *options], lambda data: run(TARGET, data), custom_mutator=_mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
