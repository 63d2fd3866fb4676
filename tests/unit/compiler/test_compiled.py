"""Where machine code is kept, and what happens where it cannot be."""

import pathlib
import subprocess
import sys

import pytest

from sidecar.compiler import compiled


def test_the_cache_is_where_the_environment_says(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    folder = compiled._folder()
    assert folder is not None
    assert folder.parent == tmp_path / "cache"
    assert folder.is_dir()


def test_other_kernels_have_another_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    before = compiled._folder()
    monkeypatch.setattr(compiled, "_SOURCES", compiled._SOURCES[:-1])
    assert compiled._folder() != before


def test_without_a_place_to_write_nothing_is_cached(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert compiled._folder() is None
    assert callable(compiled.compiled_step.__wrapped__())


def test_the_command_line_does_not_load_the_compiler_of_kernels() -> None:
    code = "import sidecar.cli, sys; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
