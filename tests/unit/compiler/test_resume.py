"""A compilation that its time limit stops again and again gives, in the end, the bytes of one that never was."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from sidecar.compiler import search, search_state
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import CompiledBundle, compile_bundle
from sidecar.compiler.search_state import Interrupted
from sidecar.compiler.stated import with_batch_axis
from sidecar.errors import InputError
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties
from tests.unit.certificate.conftest import PROPERTIES, write_model

OPTIONS = CompileOptions(time_limit_seconds=None, minimum_volume=1e-3, resumable=True, certify=False)


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and attacks early on, so that searches are stopped in the middle of things."""
    monkeypatch.setattr(search, "_BATCH", 16)
    monkeypatch.setattr("sidecar.compiler.attack._FIRST_ROUND", 20)


@dataclasses.dataclass
class _Clock:
    """Each look at it takes a second."""

    seconds: itertools.count = dataclasses.field(default_factory=itertools.count)

    def monotonic(self) -> float:
        return float(next(self.seconds))


def _compiled(folder: Path, options: CompileOptions, start: Interrupted | None = None) -> CompiledBundle:
    model = read_model(write_model(folder / "small.onnx"))
    (folder / "p.yaml").write_text(PROPERTIES)
    files = [read_properties(folder / "p.yaml", model.signature)]
    return compile_bundle(with_batch_axis(model, files), files, options, lambda _: None, start)


@pytest.mark.usefixtures("few_at_a_time")
def test_interrupted_again_and_again_it_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _compiled(tmp_path, OPTIONS)
    assert whole.interrupted is None
    clock = _Clock()
    for module in ("search", "region_searches"):
        monkeypatch.setattr(f"sidecar.compiler.{module}.time", clock)
    start, stops, limited = None, 0, dataclasses.replace(OPTIONS, time_limit_seconds=40.0, workers=2)
    while True:
        compiled = _compiled(tmp_path, limited, start)
        if compiled.interrupted is None:
            break
        assert compiled.content != whole.content
        stops += 1
        (tmp_path / "state").write_bytes(search_state.encode(compiled.interrupted))
        start = search_state.read(tmp_path / "state")
    assert stops >= 3
    assert compiled.content == whole.content
    for got, expected in zip(compiled.counterexamples, whole.counterexamples, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.usefixtures("few_at_a_time")
def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    hasty = dataclasses.replace(OPTIONS, time_limit_seconds=0.0)
    assert _compiled(tmp_path, hasty).interrupted is not None
    assert _compiled(tmp_path, dataclasses.replace(hasty, resumable=False)).interrupted is None


def test_only_the_same_compilation_goes_on(tmp_path: Path) -> None:
    hasty = dataclasses.replace(OPTIONS, time_limit_seconds=0.0)
    start = _compiled(tmp_path, hasty).interrupted
    for others in ({"minimum_volume": 1e-2}, {"max_regions": (100,)}):
        with pytest.raises(InputError, match="what was stopped was another compilation"):
            _compiled(tmp_path, dataclasses.replace(hasty, **others), start)


@pytest.mark.parametrize("damage", ["cut off", "no archive", "another archive", "pickle", "another format", "empty"])
def test_what_is_no_state_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    content = search_state.encode(Interrupted("key", ()))
    match damage:
        case "cut off":
            path.write_bytes(content[:-40])
        case "no archive":
            path.write_text("time stopped")
        case "empty":
            path.write_bytes(b"")
        case "another archive":
            np.savez(path.open("wb"), other=np.zeros(2))
        case "pickle":
            np.savez(path.open("wb"), head=np.array([{}], dtype=object))
        case _:
            np.savez(path.open("wb"), head=np.array(json.dumps({"format": 2})))
    with pytest.raises(InputError, match=r"state.*remove it to begin anew"):
        search_state.read(path)
