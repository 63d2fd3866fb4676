"""A bundle that has to match the upstream displaces a good one only when it does; whether it has to may change."""

import dataclasses
from pathlib import Path

import pytest

from sidecar.config import BundleSource, ModelSettings, Outside, Probing, ServeSettings
from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.proxy.activation import Activation
from sidecar.proxy.active_bundle import ActiveBundle, Registry, active_models
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.probing import ProbeResult, Verdict
from tests.conformance.guarded_model import MODEL
from tests.conformance.probed_model import certified_bundle


class Fixture:
    """An activation over one file, and a prober that says what it is told to."""

    def __init__(self, path: Path, probing: Probing = Probing.REQUIRED, **settings) -> None:
        self.path = path
        self.registry, self.metrics = Registry(active_models([])), Metrics()
        made = ServeSettings((BundleSource(path),), "127.0.0.1:1", probe=probing, **settings)
        self.settings = made
        self.activation = Activation(made, self.registry, self.metrics)
        self.result = ProbeResult.MATCH
        self.probed: list[int] = []

    def start(self, revision: int = 1) -> "Fixture":
        self.path.write_bytes(certified_bundle(revision))
        self.activation.start()
        return self

    def give(self, revision: int) -> None:
        self.path.write_bytes(certified_bundle(revision))
        self.look()

    def adopt(self, **changes) -> None:
        self.settings = dataclasses.replace(self.settings, **changes)
        self.activation.adopt(self.settings)

    def look(self) -> None:
        self.activation.look(again=True, probe=self.prober)

    def prober(self, bundle: ActiveBundle) -> Verdict:
        self.probed.append(bundle.revision)
        if self.result is ProbeResult.MATCH:
            self.metrics.probe.matches(bundle, True)
        return Verdict(self.result, "told so")

    @property
    def withheld(self) -> bool:
        current = self.registry.current
        return current.withheld(current.bundles[MODEL])

    @property
    def revision(self) -> int:
        return self.registry.current.bundles[MODEL].revision

    @property
    def failing(self) -> list[Reason]:
        return [failure.reason for failure in self.activation.state.failures]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.gates"


def test_a_models_first_bundle_guards_at_once_and_is_withheld(path: Path) -> None:
    fixture = Fixture(path).start()
    current = fixture.registry.current
    assert current.withheld(current.bundles[MODEL])
    assert fixture.failing == []
    fixture.look()
    assert fixture.probed == []


def test_a_bundle_that_matches_takes_over(path: Path) -> None:
    fixture = Fixture(path).start()
    fixture.give(2)
    assert (fixture.revision, fixture.probed, fixture.failing) == (2, [2], [])


@pytest.mark.parametrize("result", [ProbeResult.MISMATCH, ProbeResult.UNASKED])
def test_a_bundle_that_does_not_match_leaves_the_old_one_and_is_tried_again(path: Path, result: ProbeResult) -> None:
    fixture = Fixture(path).start()
    fixture.result = result
    fixture.give(2)
    fixture.look()
    assert (fixture.revision, fixture.failing) == (1, [Reason.BUNDLE_PROBE])
    assert fixture.metrics.value("gate_bundle_activation_failures_total", reason=Reason.BUNDLE_PROBE) == 1
    fixture.result = ProbeResult.MATCH
    fixture.look()
    assert (fixture.revision, fixture.failing, fixture.probed) == (2, [], [2, 2, 2])


@pytest.mark.parametrize("probing", [Probing.OFF, Probing.REPORT])
def test_where_no_match_is_required_a_bundle_takes_over_unprobed(path: Path, probing: Probing) -> None:
    fixture = Fixture(path, probing).start()
    fixture.result = ProbeResult.MISMATCH
    fixture.give(2)
    assert (fixture.revision, fixture.probed) == (2, [])


def test_a_bundle_that_would_roll_back_is_not_even_probed(path: Path) -> None:
    fixture = Fixture(path).start(revision=5)
    fixture.give(4)
    assert (fixture.revision, fixture.failing, fixture.probed) == (5, [Reason.BUNDLE_ROLLBACK], [])


def test_at_a_start_the_last_good_one_guards_until_the_new_one_has_matched(path: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    Fixture(path, state_folder=state).start()
    again = Fixture(path, state_folder=state).start(revision=2)
    assert (again.revision, again.failing) == (1, [Reason.BUNDLE_PROBE])
    again.look()
    assert (again.revision, again.failing, again.probed) == (2, [], [2])


class TestOtherSettingsWhileItRuns:
    def test_a_match_that_becomes_required_is_waited_for_unless_there_was_one(self, path: Path) -> None:
        fixture = Fixture(path, Probing.OFF).start()
        fixture.adopt(probe=Probing.REQUIRED)
        assert fixture.withheld
        fixture.registry.matched(fixture.registry.current.bundles[MODEL])
        for probing in (Probing.OFF, Probing.REPORT, Probing.REQUIRED):
            fixture.adopt(probe=probing)
            assert not fixture.withheld

    def test_what_was_matched_counts_on_when_only_modes_change(self, path: Path) -> None:
        fixture = Fixture(path).start()
        fixture.registry.matched(fixture.registry.current.bundles[MODEL])
        fixture.adopt(mode=Mode.SHADOW)
        fixture.look()
        assert (fixture.withheld, fixture.probed) == (False, [])

    def test_a_look_that_finds_nothing_new_leaves_the_match_alone(self, path: Path) -> None:
        fixture = Fixture(path).start()
        fixture.registry.matched(fixture.registry.current.bundles[MODEL])
        before = fixture.registry.current
        assert not fixture.activation.look(again=True)
        assert fixture.registry.current is before

    def test_a_bundle_that_waits_for_a_match_takes_over_where_none_is_required_any_more(self, path: Path) -> None:
        fixture = Fixture(path).start()
        fixture.result = ProbeResult.MISMATCH
        fixture.give(2)
        assert fixture.revision == 1
        fixture.adopt(models=(ModelSettings(MODEL, probe=Probing.REPORT),))
        fixture.look()
        assert (fixture.revision, fixture.failing) == (2, [])

    def test_a_mismatch_is_not_shown_where_nobody_looks_any_more(self, path: Path) -> None:
        fixture = Fixture(path).start()
        fixture.metrics.probe.matches(fixture.registry.current.bundles[MODEL], False)
        fixture.adopt(probe=Probing.REPORT)
        assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == 1
        fixture.adopt(probe=Probing.OFF)
        assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == 0

    def test_nor_by_a_probe_that_was_under_way_when_it_was_switched_off(self, path: Path) -> None:
        fixture = Fixture(path).start()
        probed = fixture.registry.current.bundles[MODEL]
        fixture.adopt(probe=Probing.OFF)
        fixture.metrics.probe.matches(probed, False)
        assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == 0
        fixture.adopt(probe=Probing.REPORT)
        fixture.metrics.probe.matches(probed, False)
        assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == 1

    def test_a_match_that_let_a_bundle_take_over_is_its_last_match(self, path: Path) -> None:
        fixture = Fixture(path).start()
        fixture.result = ProbeResult.MATCH
        fixture.give(2)
        assert fixture.revision == 2
        assert fixture.metrics.value("gate_probe_last_match_timestamp_seconds", model=MODEL) > 1e9

    def test_a_match_of_the_bundle_before_is_none_of_the_next(self, path: Path) -> None:
        fixture = Fixture(path, Probing.REPORT).start()
        fixture.metrics.probe.matches(fixture.registry.current.bundles[MODEL], True)
        fixture.give(2)
        assert fixture.metrics.value("gate_probe_last_match_timestamp_seconds", model=MODEL) == 0

    def test_the_policy_holds_also_where_the_modes_cannot_be_followed_or_the_source_is_gone(
        self, path: Path, tmp_path: Path
    ) -> None:
        fixture = Fixture(path, Probing.REPORT).start()
        wrong = BundleSource(path, modes=(("nowhere", Mode.OFF),))
        other = BundleSource(tmp_path / "other.gates")
        fixture.adopt(bundles=(wrong,), outside=Outside.REFUSE)
        assert fixture.registry.current.bundles[MODEL].policy.outside is Outside.REFUSE
        fixture.adopt(bundles=(other,), probe=Probing.REQUIRED)
        assert fixture.withheld

    def test_what_differs_is_logged(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        fixture = Fixture(path).start()
        with caplog.at_level("INFO", "sidecar.proxy"):
            fixture.adopt(models=(ModelSettings(MODEL, Outside.REFUSE, Probing.OFF),))
        assert [record.getMessage() for record in caplog.records] == [
            f"outside for {MODEL}: pass -> refuse",
            f"probe for {MODEL}: required -> off",
        ]
