"""The settings file of a running sidecar: what takes effect, what waits, what is reported."""

import logging
from pathlib import Path

import pytest

from sidecar.config import ServeSettings
from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.proxy.live_settings import LiveSettings, SettingsFile
from sidecar.proxy.metrics import Metrics
from sidecar.settings.live import follow
from sidecar.settings.resolve import resolve
from sidecar.settings.table import SETTINGS

START = "bundles: [b.gates]\nupstream: host:1\nmode: enforce\n"


class Followed:
    """A file that is followed, and ways to look at what comes of it."""

    def __init__(self, path: Path, environment: dict[str, str] | None = None, **flags) -> None:
        self.path, self.metrics = path, Metrics()
        self.path.write_text(START)

        def read(content: bytes) -> ServeSettings:
            return resolve(path, environment or {}, flags, content).settings

        self.live = LiveSettings(SettingsFile(path, read), read(START.encode()), self.metrics)

    def change(self, text: str) -> ServeSettings | None:
        self.path.write_text(text)
        return self.live.look()

    def failures(self, reason: Reason) -> float | None:
        return self.metrics.value("gate_settings_failures_total", reason=reason)

    @property
    def failing(self) -> float | None:
        return self.metrics.value("gate_settings_failing")


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path / "sidecar.yaml")


def test_an_unchanged_file_changes_nothing(followed: Followed):
    assert [followed.live.look(), followed.live.look(again=True), followed.change(START + "# words\n")] == [None] * 3
    assert (followed.live.state.changed_at, followed.live.state.reason) == (None, None)
    assert followed.metrics.value("gate_settings_changes_total") == 0


def test_a_changed_mode_takes_effect_once(followed: Followed, caplog):
    with caplog.at_level(logging.INFO):
        found = followed.change(START.replace("enforce", "shadow"))
    assert found is not None
    assert found.mode is Mode.SHADOW
    assert followed.live.look(again=True) is None
    assert followed.live.state.changed_at is not None
    assert followed.metrics.value("gate_settings_changes_total") == 1
    assert "in force from now on: mode" in caplog.text


def test_each_hot_setting_is_followed_and_no_other(followed: Followed):
    changes = {
        "bundles": "bundles: [{path: c.gates, modes: {p: off}}]",
        "mode": "mode: off",
        "outside": "outside: refuse",
        "probe": "probe: required",
        "unguarded_models": "unguarded_models: pass",
        "on_upstream_failure": "on_upstream_failure: fallback",
        "models": "models: [{name: planner, outside: refuse, probe: off}]",
        "row_limit": "row_limit: 7",
        "allow_rollback": "allow_rollback: true",
    }
    assert [setting.name for setting in SETTINGS if setting.hot] == list(changes)
    for name, line in changes.items():
        others = [each for each in START.splitlines() if not each.startswith(f"{name}:")]
        assert followed.change("\n".join([*others, line])) is not None, name
        assert followed.live.state.reason is None


def test_what_needs_a_restart_is_reported_and_the_rest_takes_effect(followed: Followed, caplog):
    found = followed.change("bundles: [b.gates]\nupstream: host:2\nmode: shadow\ndrain: 3s\n")
    assert found is not None
    assert (found.mode, found.upstream, found.drain_seconds) == (Mode.SHADOW, "host:1", 10.0)
    state = followed.live.state
    assert state.reason is Reason.SETTINGS_NEED_RESTART
    assert "need a restart: upstream, drain" in state.message
    assert (followed.failing, followed.failures(Reason.SETTINGS_NEED_RESTART)) == (1, 1)
    followed.live.look(again=True)
    assert caplog.text.count("need a restart") == followed.failures(Reason.SETTINGS_NEED_RESTART) == 1
    assert followed.change(START) is not None
    assert (followed.live.state.reason, followed.live.state.message, followed.failing) == (None, "", 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("bundles: [b.gates", "YAML"),
        (START + "moed: off\n", "sidecar.yaml:4:1: the file: unknown key 'moed'"),
        (START.replace("enforce", "enforced"), "did you mean enforce"),
        (START.replace("upstream: host:1\n", ""), "upstream is not given"),
        (START + "held_limit: 1KiB\n", "held_limit"),
        ("#" * (1 << 20) + START, "larger than"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_is_reported(followed: Followed, caplog, text: str, words: str):
    assert followed.change(text.replace("mode: enforce\n", "mode: off\n")) is None
    for _ in range(3):
        assert followed.live.look(again=True) is None
    state = followed.live.state
    assert (state.reason, followed.failing) == (Reason.SETTINGS_INVALID, 1)
    assert words in state.message
    assert followed.failures(Reason.SETTINGS_INVALID) == 1
    assert caplog.text.count("settings_invalid") == 1
    assert followed.change(START) is None
    assert (followed.live.state.reason, followed.failing) == (None, 0)


def test_a_file_that_is_away_for_a_while_changes_nothing_and_is_reported(followed: Followed):
    content = followed.path.read_bytes()
    followed.live.look()
    followed.path.unlink()
    assert followed.live.look() is None
    assert (followed.live.state.reason, followed.failing) == (Reason.SETTINGS_UNREADABLE, 1)
    followed.path.write_bytes(content)
    assert followed.live.look() is None
    assert (followed.live.state.reason, followed.failing) == (None, 0)


def test_flags_and_environment_stand_over_the_changed_file_too(tmp_path: Path):
    followed = Followed(tmp_path / "s.yaml", {"GATE_OUTSIDE": "refuse"}, mode=Mode.SHADOW)
    assert followed.change(START.replace("enforce", "off") + "outside: pass\n") is None
    assert followed.live.state.reason is None


def test_a_defect_of_ours_changes_nothing_and_is_reported(tmp_path: Path, caplog):
    path = tmp_path / "s.yaml"
    path.write_text(START)

    def defect(_: bytes) -> ServeSettings:
        raise ZeroDivisionError("ours")

    live = LiveSettings(SettingsFile(path, defect), resolve(path, {}, {}).settings, Metrics())
    assert live.look() is None
    assert live.state.reason is Reason.INTERNAL
    assert "ZeroDivisionError" in caplog.text


def test_what_does_not_go_together_is_told_before_anything_changes():
    made = resolve(None, {"GATE_BUNDLES": "b", "GATE_UPSTREAM": "h:1"}, {})
    with pytest.raises(ValueError, match="at least one"):
        follow(made.settings, _without_bundles(made.settings))


def _without_bundles(settings: ServeSettings) -> ServeSettings:
    """As no reader makes them."""
    found = object.__new__(ServeSettings)
    found.__dict__.update(settings.__dict__, bundles=())
    return found
