"""The campaign against the Rust crate: which targets it has, and what it says where it cannot run."""

import os
import subprocess
import sys
import tomllib

from tests.fuzz import native
from tests.fuzz.referee import pb


def test_every_target_that_is_built_is_fuzzed():
    crate = tomllib.loads((native.CRATE / "fuzz" / "Cargo.toml").read_text())
    assert [target["name"] for target in crate["bin"]] == list(native.NAMES)


def test_without_cargo_it_says_in_one_line_that_it_did_not_run(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.native"],
        cwd=native.ROOT,
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (
        0,
        "NOT RUN: fuzzing of the native gates; cargo is not installed\n",
    )


def test_readers_of_messages_begin_with_messages():
    for name, kind in (("request", pb.ModelInferRequest), ("response", pb.ModelInferResponse)):
        read = [kind.FromString(seed).model_name for seed in native.seeds(name)[:5]]
        assert any(read), f"{name}: no seed names a model: {read}"
