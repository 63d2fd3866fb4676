"""The demo's verdict: it finds what got through, what was touched needlessly, and says so in few words."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import CompiledBundle, compile_bundle
from sidecar.compiler.stated import with_batch_axis
from sidecar.demo.driving import LARGEST, MODEL_PATH, PROPERTIES_PATH
from sidecar.demo.exchange import Answer, Exchange
from sidecar.demo.judge import Verdict, judge
from sidecar.demo.report import most_telling, next_steps, proved, story, table
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties
from sidecar.tensors import Rows

BRAKE = np.array([0.0, 1.0, 0.0, 0.0])
HOLD = np.array([0.0, 0.0, 1.0, 0.0])
ACCELERATE = np.array([0.0, 0.0, 0.0, 1.0])
CLOSING_IN = np.array([30.0, 20.0, 20.0]) / LARGEST
FREE_ROAD = np.array([140.0, 30.0, 0.0]) / LARGEST


@pytest.fixture(scope="module")
def compiled() -> CompiledBundle:
    model = read_model(MODEL_PATH)
    files = [read_properties(PROPERTIES_PATH, model.network.signature)]
    return compile_bundle(with_batch_axis(model, files), files, CompileOptions(max_regions=(50,)), lambda _: None)


def exchange(inputs: Rows, model: Rows, client: Rows, same_bytes: bool = True) -> Exchange:
    return Exchange(
        inputs=np.array([inputs]),
        direct=Answer(b"a", 0.001, ""),
        guarded=Answer(b"a" if same_bytes else b"b", 0.003, "call/1"),
        model_outputs=np.array([model]),
        client_outputs=np.array([client]),
    )


def verdict_on(compiled: CompiledBundle, *exchanges: Exchange) -> Verdict:
    return judge(compiled.bundle.gates, exchanges)


def test_corrected_violation_and_untouched_answer_are_kept_promises(compiled: CompiledBundle) -> None:
    verdict = verdict_on(
        compiled, exchange(CLOSING_IN, HOLD, BRAKE, same_bytes=False), exchange(FREE_ROAD, ACCELERATE, ACCELERATE)
    )
    assert verdict.kept
    assert (verdict.requests, verdict.answers, verdict.in_domain) == (2, 2, 1)
    assert (verdict.violations_after, verdict.fine, verdict.identical) == (0, 1, 1)
    (correction,) = verdict.corrections
    assert correction.distance == pytest.approx(2**0.5)
    assert [gate.property_id for gate in correction.gates] == ["brake-when-closing-in"]
    assert verdict.added_p50_seconds == pytest.approx(0.002)


def test_violation_that_gets_through_is_a_broken_promise(compiled: CompiledBundle) -> None:
    verdict = verdict_on(compiled, exchange(CLOSING_IN, HOLD, HOLD))
    assert verdict.violations_after == 1
    assert not verdict.kept


def test_tie_for_the_largest_score_is_a_violation(compiled: CompiledBundle) -> None:
    assert verdict_on(compiled, exchange(CLOSING_IN, BRAKE + HOLD, BRAKE)).corrections


def test_fine_answer_with_other_bytes_is_a_broken_promise(compiled: CompiledBundle) -> None:
    verdict = verdict_on(compiled, exchange(FREE_ROAD, HOLD, HOLD, same_bytes=False))
    assert (verdict.fine, verdict.identical) == (1, 0)
    assert not verdict.kept


def test_violation_made_by_the_sidecar_is_a_broken_promise(compiled: CompiledBundle) -> None:
    verdict = verdict_on(compiled, exchange(CLOSING_IN, BRAKE, HOLD, same_bytes=False))
    assert not verdict.corrections
    assert not verdict.kept


def test_most_telling_row_breaks_a_critical_property_by_far_and_is_no_oncoming_car(compiled: CompiledBundle) -> None:
    oncoming = np.array([1.0, 5.0, 30.0]) / LARGEST
    speeding = np.array([140.0, 39.0, 0.0]) / LARGEST
    exchanges = (
        exchange(speeding, 9 * ACCELERATE, HOLD, same_bytes=False),
        exchange(oncoming, 9 * HOLD, BRAKE, same_bytes=False),
        exchange(CLOSING_IN, HOLD, BRAKE, same_bytes=False),
        exchange(CLOSING_IN, 3 * HOLD, BRAKE, same_bytes=False),
    )
    told = most_telling(verdict_on(compiled, *exchanges).corrections, compiled.bundle)
    assert np.array_equal(told.before, 3 * HOLD)


def test_story_tells_situation_advice_property_distance_and_decision(compiled: CompiledBundle) -> None:
    (correction,) = verdict_on(compiled, exchange(CLOSING_IN, ACCELERATE, BRAKE, same_bytes=False)).corrections
    text = "\n".join(story(correction, compiled.bundle))
    for word in ("30.0 m", "20.0 m/s", "ACCELERATE", "BRAKE", "brake-when-closing-in", "1.41", "call/1"):
        assert word in text


def test_story_tells_oncoming_cars_apart(compiled: CompiledBundle) -> None:
    oncoming = np.array([30.0, 5.0, 15.0]) / LARGEST
    (correction,) = verdict_on(compiled, exchange(oncoming, HOLD, BRAKE, same_bytes=False)).corrections
    assert "10.0 m/s towards us" in story(correction, compiled.bundle)[0]


def test_report_fits_on_a_screen(compiled: CompiledBundle) -> None:
    row = exchange(CLOSING_IN, ACCELERATE, BRAKE, same_bytes=False)
    verdict = dataclasses.replace(verdict_on(compiled, row), requests=100_000, answers=1_000_000, fine=100_000)
    (correction,) = verdict.corrections
    lines = [*proved(compiled.bundle), *table(verdict), *story(correction, compiled.bundle)]
    lines += [line for line in next_steps(None, correction) if "export PATH" not in line]
    assert len(lines) < 30
    assert max(map(len, lines)) <= 100


def test_table_of_traffic_without_violations_says_zero(compiled: CompiledBundle) -> None:
    lines = table(verdict_on(compiled, exchange(FREE_ROAD, HOLD, HOLD)))
    assert [line.split()[-1] for line in lines if "violations by" in line] == ["0"]


def test_commands_start_in_the_kept_folder() -> None:
    kept = "\n".join(next_steps(Path("a folder"), None))
    assert "cd 'a folder'" in kept
    assert "--keep" not in kept
    assert "--keep demo && cd demo" in "\n".join(next_steps(None, None))


def test_commands_say_where_the_program_is_when_the_shell_would_not_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert next_steps(None, None)[0] == f'   export PATH="{Path(sys.executable).parent}:$PATH"'
