"""The active bundles follow their sources: files, folders, ConfigMaps; what is bad never displaces what is good."""

import dataclasses
import datetime
import json
import logging
import os
from pathlib import Path

import pytest

from sidecar.bundle.keys import create_key_files, read_private_key_file
from sidecar.bundle.signature import sign
from sidecar.config import BundleSource, HttpSource, ModelSettings, Outside, ServeSettings
from sidecar.errors import InputError, Reason
from sidecar.gates.values import Mode
from sidecar.proxy import last_good
from sidecar.proxy.activation import Activation
from sidecar.proxy.active_bundle import Registry, active_models
from sidecar.proxy.first_seen import FirstSeen
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.status import describe
from tests.conformance.bundle_variants import variant
from tests.conformance.guarded_model import bundle_bytes

NOWHERE = "http://127.0.0.1:1/b.gates"


class Fixture:
    """An activation over some sources, and ways to look at it."""

    def __init__(self, *sources: BundleSource | HttpSource, **settings) -> None:
        self.registry, self.metrics = Registry(active_models([])), Metrics()
        made = ServeSettings(sources, "127.0.0.1:1", **settings)
        self.settings, self.now = made, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        self.activation = Activation(made, self.registry, self.metrics, lambda: self.now)
        self.readiness = Readiness(self.registry, MemoryUpstream({}), self.metrics, 1.0)

    def adopt(self, *sources: BundleSource | HttpSource, **changes) -> None:
        self.settings = dataclasses.replace(self.settings, **({"bundles": sources} if sources else {}), **changes)
        self.activation.adopt(self.settings)

    def start(self) -> "Fixture":
        self.activation.start()
        return self

    @property
    def revisions(self) -> dict[str, int]:
        return {name: bundle.revision for name, bundle in self.registry.current.bundles.items()}

    @property
    def failing(self) -> list[tuple[str, str]]:
        return [(Path(each.place).name, each.reason) for each in self.activation.state.failures]

    @property
    def status(self) -> dict:
        return json.loads(json.dumps(describe(self.activation.state, self.readiness, {}, "up", FirstSeen())))

    def failures(self, reason: Reason) -> float | None:
        return self.metrics.value("gate_bundle_activation_failures_total", reason=reason)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "b.gates"
    path.write_bytes(variant(1))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    return folder


def _damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_settings_of_a_model_without_a_bundle_are_shown(path: Path, tmp_path: Path) -> None:
    watched = Fixture(BundleSource(path), models=(ModelSettings("guarded"), ModelSettings("gaurded"))).start()
    assert watched.status["models_settings_without_bundle"] == ["gaurded"]
    watched.adopt(models=(ModelSettings("guarded"), ModelSettings("other")))
    assert watched.status["models_settings_without_bundle"] == ["other"]
    other = tmp_path / "other.gates"
    other.write_bytes(variant(2))
    watched.adopt(BundleSource(path), BundleSource(other, model_name="other"))
    watched.activation.look()
    assert watched.status["models_settings_without_bundle"] == []


class TestFile:
    def test_a_new_bundle_becomes_active(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        before = watched.registry.current
        path.write_bytes(variant(2, 4))
        assert watched.activation.look()
        assert watched.revisions == {"guarded": 4}
        assert before.bundles["guarded"].revision == 3  # whoever took the set keeps it

    def test_without_a_change_nothing_changes(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        before = watched.registry.current
        path.write_bytes(path.read_bytes())
        assert [watched.activation.look(), watched.activation.look(again=True)] == [False, False]
        assert watched.registry.current.bundles == before.bundles
        assert watched.metrics.value("gate_bundle_activations_total", model="guarded") == 1

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", Reason.BUNDLE_MAGIC),
            (b"nonsense", Reason.BUNDLE_MAGIC),
            (variant(2, 4)[:-40], Reason.BUNDLE_TRUNCATED),
            (_damaged(variant(2, 4)), Reason.BUNDLE_DIGEST),
            (variant(2, 2), Reason.BUNDLE_ROLLBACK),
        ],
    )
    def test_a_bad_bundle_does_not_displace_a_good_one(self, path: Path, content: bytes, reason: Reason):
        watched = Fixture(BundleSource(path)).start()
        before = watched.registry.current
        path.write_bytes(content)
        assert not watched.activation.look()
        assert watched.registry.current.bundles == before.bundles
        assert (watched.failing, watched.failures(reason)) == ([("b.gates", reason)], 1)
        assert watched.metrics.value("gate_bundle_failing_places") == 1

    def test_a_failure_is_logged_and_counted_once_until_it_changes(self, path: Path, caplog):
        watched = Fixture(BundleSource(path)).start()
        path.write_bytes(b"nonsense")
        with caplog.at_level(logging.INFO, "sidecar.proxy"):
            for _ in range(5):
                watched.activation.look()
            path.write_bytes(variant(2, 2))
            watched.activation.look()
            path.write_bytes(variant(2, 4))
            watched.activation.look()
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO", "INFO"]
        assert [watched.failures(each) for each in (Reason.BUNDLE_MAGIC, Reason.BUNDLE_ROLLBACK)] == [1, 1]
        assert watched.failing == []
        assert watched.metrics.value("gate_bundle_failing_places") == 0

    def test_a_removed_file_keeps_the_active_bundle_and_is_reported(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        path.unlink()
        watched.activation.look()
        assert watched.revisions == {"guarded": 3}
        assert watched.failing == [("b.gates", Reason.BUNDLE_UNREADABLE)]

    def test_a_file_that_turns_to_another_model_keeps_the_first_one_guarded(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        path.write_bytes(variant(1, name="other"))
        watched.activation.look()
        assert watched.revisions == {"guarded": 3, "other": 3}
        assert watched.failing == [("b.gates", Reason.BUNDLE_UNREADABLE)]

    def test_rollback_where_it_is_allowed(self, path: Path):
        watched = Fixture(BundleSource(path), allow_rollback=True).start()
        path.write_bytes(variant(2, 1))
        watched.activation.look()
        assert watched.revisions == {"guarded": 1}

    def test_a_defect_of_ours_does_not_displace_a_good_bundle(self, path: Path, monkeypatch, caplog):
        watched = Fixture(BundleSource(path)).start()
        before = watched.registry.current
        path.write_bytes(variant(2, 4))

        def defect(*_, **__):
            raise ZeroDivisionError("ours")

        monkeypatch.setattr("sidecar.proxy.offers.activate", defect)
        watched.activation.look()
        assert watched.registry.current.bundles == before.bundles
        assert watched.failing == [("b.gates", Reason.INTERNAL)]
        assert "ZeroDivisionError" in caplog.text

    def test_the_replaced_bundles_metrics_go_and_readiness_does_not_blink(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        digest = watched.registry.current.bundles["guarded"].digest
        watched.metrics.model_ready("guarded", True)
        path.write_bytes(variant(2, 4))
        watched.activation.look()
        assert watched.metrics.value("gate_bundle_info", model="guarded", revision="3", digest=digest) is None
        assert watched.metrics.value("gate_bundle_revision", model="guarded") == 4
        assert watched.metrics.value("gate_upstream_model_ready", model="guarded") == 1
        assert watched.metrics.value("gate_bundle_activations_total", model="guarded") == 2


class TestFolder:
    def test_an_empty_folder_is_waited_for(self, folder: Path):
        watched = Fixture(BundleSource(folder)).start()
        assert (watched.revisions, watched.failing) == ({}, [])
        assert watched.readiness.why == (f"no gate bundle is active from {folder}",)
        (folder / "a.gates").write_bytes(variant(1))
        assert watched.activation.look()
        assert watched.registry.current.awaited == ()
        assert watched.revisions == {"guarded": 3}

    def test_a_bundle_for_another_model_becomes_active_beside_the_first(self, folder: Path):
        (folder / "a.gates").write_bytes(variant(1))
        watched = Fixture(BundleSource(folder)).start()
        (folder / "b.gates").write_bytes(variant(1, 7, "other"))
        watched.activation.look()
        assert watched.revisions == {"guarded": 3, "other": 7}

    def test_a_rival_for_the_same_model_is_refused(self, folder: Path):
        (folder / "a.gates").write_bytes(variant(1))
        watched = Fixture(BundleSource(folder)).start()
        (folder / "b.gates").write_bytes(variant(2, 7))
        watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [("b.gates", Reason.BUNDLE_CONFLICT)])
        (folder / "a.gates").unlink()
        watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 7}, [])

    def test_bad_ones_beside_good_ones_are_reported(self, folder: Path):
        (folder / "a.gates").write_bytes(b"nonsense")
        (folder / "b.gates").write_bytes(variant(1))
        watched = Fixture(BundleSource(folder)).start()
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [("a.gates", Reason.BUNDLE_MAGIC)])

    def test_a_removed_file_keeps_its_bundle_active(self, folder: Path):
        (folder / "a.gates").write_bytes(variant(1))
        (folder / "b.gates").write_bytes(variant(1, name="other"))
        watched = Fixture(BundleSource(folder)).start()
        (folder / "a.gates").unlink()
        watched.activation.look()
        assert watched.revisions == {"guarded": 3, "other": 3}
        assert watched.failing == [("a.gates", Reason.BUNDLE_UNREADABLE)]

    def test_a_removed_folder_keeps_all_active(self, folder: Path):
        (folder / "a.gates").write_bytes(variant(1))
        watched = Fixture(BundleSource(folder)).start()
        folder.rename(folder.with_name("gone"))
        watched.activation.look()
        assert watched.revisions == {"guarded": 3}
        assert (folder.name, Reason.BUNDLE_UNREADABLE) in watched.failing

    def test_a_folder_that_cannot_be_listed_keeps_all_active(self, folder: Path, tmp_path: Path, monkeypatch):
        def refuse(_):
            raise PermissionError(13, "Permission denied")

        state = tmp_path / "state"
        state.mkdir()
        (folder / "a.gates").write_bytes(variant(1))
        watched = Fixture(BundleSource(folder), state_folder=state).start()
        monkeypatch.setattr("sidecar.proxy.bundle_places.os.listdir", refuse)
        watched.activation.look()
        restarted = Fixture(BundleSource(folder), state_folder=state).start()
        for each in (watched, restarted):
            assert each.revisions == {"guarded": 3}
            assert (folder.name, Reason.BUNDLE_UNREADABLE) in each.failing

    def test_a_config_maps_swap_is_noticed(self, folder: Path):
        """As the kubelet does it: a new folder, and a symbolic link replaced in one step."""

        def project(version: str, content: bytes) -> None:
            (folder / version).mkdir()
            (folder / version / "b.gates").write_bytes(content)
            (folder / "..data_tmp").symlink_to(version)
            (folder / "..data_tmp").replace(folder / "..data")

        project("..2026_01", variant(1, 3))
        (folder / "b.gates").symlink_to("..data/b.gates")
        watched = Fixture(BundleSource(folder)).start()
        project("..2026_02", variant(2, 4))
        assert watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 4}, [])

    def test_a_defect_while_one_place_is_read_does_not_keep_us_from_the_others(self, path: Path, monkeypatch, caplog):
        def defect(_):
            raise ZeroDivisionError("ours")

        monkeypatch.setattr("sidecar.proxy.offers.HttpReader.read", defect)
        watched = Fixture(HttpSource(NOWHERE), BundleSource(path)).start()
        assert watched.revisions == {"guarded": 3}
        assert [reason for _, reason in watched.failing] == [Reason.INTERNAL]
        assert "ZeroDivisionError" in caplog.text

    def test_a_path_that_cannot_even_be_looked_at_does_not_keep_us_from_the_others(self, path: Path, tmp_path: Path):
        watched = Fixture(BundleSource(path)).start()
        watched.activation.adopt(ServeSettings((BundleSource(tmp_path / ("x" * 300)), BundleSource(path)), "u:1"))
        path.write_bytes(variant(2, 4))
        watched.activation.look()
        assert watched.revisions == {"guarded": 4}
        assert [reason for _, reason in watched.failing] == [Reason.BUNDLE_UNREADABLE]


class TestStart:
    def test_a_named_file_that_is_bad_ends_the_start_whatever_else_is_good(self, path: Path, folder: Path):
        (folder / "a.gates").write_bytes(b"nonsense")
        with pytest.raises(InputError, match=r"a\.gates: bundle_magic"):
            Fixture(BundleSource(path), BundleSource(folder / "a.gates")).start()

    def test_a_url_that_does_not_answer_is_waited_for(self, path: Path):
        watched = Fixture(BundleSource(path), HttpSource(NOWHERE)).start()
        assert watched.revisions == {"guarded": 3}
        assert watched.registry.current.awaited == (NOWHERE,)
        assert watched.failures(Reason.BUNDLE_UNREADABLE) == 1


class TestLastGood:
    def _start(self, source: BundleSource | HttpSource, state: Path, **settings) -> Fixture:
        return Fixture(source, state_folder=state, **settings).start()

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        state = tmp_path / "state"
        state.mkdir()
        return state

    @pytest.mark.parametrize("content", [None, b"nonsense", variant(1, 3)[:-40]])
    def test_it_guards_where_its_source_is_missing_or_bad(self, path: Path, state: Path, content: bytes | None):
        self._start(BundleSource(path), state)
        path.unlink() if content is None else path.write_bytes(content)
        watched = self._start(BundleSource(path), state)
        assert watched.revisions == {"guarded": 3}
        assert [name for name, _ in watched.failing] == ["b.gates"]
        (model,) = watched.status["models"]
        assert (model["is_last_good"], model["place"]) == (True, str(path))
        path.write_bytes(variant(2, 4))
        watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 4}, [])
        assert watched.status["models"][0]["is_last_good"] is False

    def test_the_latest_is_kept(self, path: Path, state: Path):
        watched = self._start(BundleSource(path), state)
        path.write_bytes(variant(2, 4))
        watched.activation.look()
        path.unlink()
        assert self._start(BundleSource(path), state).revisions == {"guarded": 4}

    def test_a_bad_bundle_is_not_kept(self, path: Path, state: Path):
        watched = self._start(BundleSource(path), state)
        for content in (b"nonsense", variant(2, 2)):
            path.write_bytes(content)
            watched.activation.look()
        (kept,) = state.iterdir()
        assert kept.read_bytes() == variant(1, 3)

    def test_revisions_do_not_go_down_over_a_restart(self, path: Path, state: Path):
        self._start(BundleSource(path), state)
        path.write_bytes(variant(2, 2))
        watched = self._start(BundleSource(path), state)
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [("b.gates", Reason.BUNDLE_ROLLBACK)])
        forced = self._start(BundleSource(path), state, allow_rollback=True)
        assert (forced.revisions, forced.failing) == ({"guarded": 2}, [])
        path.unlink()
        assert self._start(BundleSource(path), state).revisions == {"guarded": 2}

    def test_nor_under_another_name_in_the_same_folder(self, folder: Path, state: Path):
        (folder / "a.gates").write_bytes(variant(1, 3))
        (folder / "o.gates").write_bytes(variant(1, 1, "other"))
        self._start(BundleSource(folder), state)
        (folder / "a.gates").unlink()
        (folder / "b.gates").write_bytes(variant(2, 2))
        watched = self._start(BundleSource(folder), state)
        assert watched.revisions == {"guarded": 3, "other": 1}
        assert watched.failing == [("b.gates", Reason.BUNDLE_ROLLBACK)]
        forced = self._start(BundleSource(folder), state, allow_rollback=True)
        assert (forced.revisions, forced.failing) == ({"guarded": 2, "other": 1}, [])
        assert self._start(BundleSource(folder), state).revisions == {"guarded": 2, "other": 1}
        assert len(list(state.iterdir())) == 2

    def test_a_copy_whose_signature_has_ended_is_not_kept_over_a_good_one(self, path: Path, state: Path):
        public, _ = create_key_files(path.with_name("ops"))
        signer = read_private_key_file(path.with_name("ops"))
        good = sign(variant(1), signer)
        path.write_bytes(good)
        watched = self._start(BundleSource(path), state, trusted_keys=(public,))
        path.write_bytes(sign(variant(1), signer, watched.now))
        watched.activation.look()
        assert watched.failing == [("b.gates", Reason.BUNDLE_EXPIRED)]
        assert [kept.read_bytes() for kept in state.iterdir()] == [good]

    @pytest.mark.parametrize("how", ["emptied", "removed"])
    def test_a_folder_that_is_gone_or_empty_is_stood_in_for(self, folder: Path, state: Path, how: str):
        (folder / "a.gates").write_bytes(variant(1))
        (folder / "b.gates").write_bytes(variant(1, name="other"))
        self._start(BundleSource(folder), state)
        for file in folder.iterdir():
            file.unlink()
        if how == "removed":
            folder.rmdir()
        watched = self._start(BundleSource(folder), state)
        assert watched.revisions == {"guarded": 3, "other": 3}
        assert all(model["is_last_good"] for model in watched.status["models"])
        assert (folder.name, Reason.BUNDLE_UNREADABLE) in watched.failing

    def test_what_was_taken_out_of_a_folder_is_unguarded_after_a_restart(self, folder: Path, state: Path):
        (folder / "a.gates").write_bytes(variant(1))
        (folder / "b.gates").write_bytes(variant(1, name="other"))
        self._start(BundleSource(folder), state)
        (folder / "a.gates").unlink()
        watched = self._start(BundleSource(folder), state)
        assert (watched.revisions, watched.failing) == ({"other": 3}, [])

    def test_it_stands_in_for_a_url(self, state: Path, monkeypatch):
        monkeypatch.setattr("sidecar.proxy.offers.HttpReader.read", lambda _: variant(1))
        self._start(HttpSource(NOWHERE), state)
        monkeypatch.undo()
        watched = self._start(HttpSource(NOWHERE), state)
        assert (watched.revisions, watched.status["models"][0]["is_last_good"]) == ({"guarded": 3}, True)

    def test_a_damaged_one_is_of_no_use(self, path: Path, state: Path, caplog):
        self._start(BundleSource(path), state)
        (kept,) = state.iterdir()
        kept.write_bytes(_damaged(kept.read_bytes()))
        assert self._start(BundleSource(path), state).revisions == {"guarded": 3}
        assert "of no use" in caplog.text
        kept.unlink()
        kept.mkdir()
        path.unlink()
        with pytest.raises(InputError, match=r"b\.gates"):
            self._start(BundleSource(path), state)
        assert "cannot be read" in caplog.text

    def test_a_damaged_one_does_not_hide_the_others(self, folder: Path, state: Path, caplog):
        (folder / "a.gates").write_bytes(variant(1))
        (folder / "b.gates").write_bytes(variant(1, name="other"))
        self._start(BundleSource(folder), state)
        for file in folder.iterdir():
            file.unlink()
        first, _ = sorted(state.iterdir())
        first.unlink()
        os.mkfifo(first)
        assert len(self._start(BundleSource(folder), state).revisions) == 1
        assert "it is no regular file" in caplog.text

    def test_a_folder_in_its_place_is_reported_and_nothing_else_suffers(self, path: Path, state: Path):
        watched = Fixture(BundleSource(path), state_folder=state)
        kept = last_good._name(str(path), str(path), "guarded")
        (state / kept).mkdir()
        watched.start()
        assert watched.revisions == {"guarded": 3}
        assert "got a folder" in watched.status["last_good_error"]
        watched.activation.look()
        assert watched.metrics.value("gate_bundle_activations_total", model="guarded") == 1

    def test_one_that_cannot_be_kept_is_reported_and_tried_again(self, path: Path, tmp_path: Path, caplog):
        state = tmp_path / "later"
        watched = self._start(BundleSource(path), state)
        watched.activation.look()
        assert watched.revisions == {"guarded": 3}
        assert str(state) in watched.status["last_good_error"]
        assert watched.metrics.value("gate_bundle_last_good_failing") == 1
        assert caplog.text.count("is not kept") == 1
        state.mkdir()
        watched.activation.look()
        assert watched.status["last_good_error"] is None
        assert watched.metrics.value("gate_bundle_last_good_failing") == 0
        assert [kept.read_bytes() for kept in state.iterdir()] == [path.read_bytes()]


class Signer:
    """A key pair."""

    def __init__(self, path: Path) -> None:
        self.public, _ = create_key_files(path)
        self._key = read_private_key_file(path)

    def sign(self, sealed: bytes, end: datetime.datetime | None = None) -> bytes:
        return sign(sealed, self._key, end)


class TestTrust:
    @pytest.fixture
    def ops(self, tmp_path: Path) -> Signer:
        return Signer(tmp_path / "ops")

    def test_only_who_is_trusted_displaces_a_bundle(self, folder: Path, ops: Signer, tmp_path: Path):
        (folder / "a.gates").write_bytes(ops.sign(variant(1)))
        watched = Fixture(BundleSource(folder), trusted_keys=(ops.public,)).start()
        before = watched.registry.current
        signed = ops.sign(variant(2, 4))
        for content, reason in (
            (variant(2, 4), Reason.BUNDLE_UNSIGNED),
            (variant(1), Reason.BUNDLE_UNSIGNED),  # the same bundle, with its signature taken off
            (Signer(tmp_path / "stranger").sign(variant(2, 4)), Reason.BUNDLE_SIGNATURE),
            (signed[:-1] + bytes([signed[-1] ^ 1]), Reason.BUNDLE_SIGNATURE),
        ):
            (folder / "a.gates").write_bytes(content)
            assert not watched.activation.look()
            assert watched.registry.current.bundles == before.bundles
            assert watched.failing == [("a.gates", reason)]
        (folder / "a.gates").write_bytes(signed)
        watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 4}, [])

    def test_an_unsigned_one_dropped_into_the_folder_is_refused(self, folder: Path, ops: Signer):
        (folder / "a.gates").write_bytes(ops.sign(variant(1)))
        watched = Fixture(BundleSource(folder), trusted_keys=(ops.public,)).start()
        (folder / "b.gates").write_bytes(variant(1, 9, "other"))
        (folder / "c.gates").write_bytes(variant(2, 9))
        assert not watched.activation.look()
        assert watched.revisions == {"guarded": 3}
        assert watched.failing == [("b.gates", Reason.BUNDLE_UNSIGNED), ("c.gates", Reason.BUNDLE_UNSIGNED)]

    def test_unsigned_ones_where_they_are_allowed_too(self, path: Path, ops: Signer):
        watched = Fixture(BundleSource(path), trusted_keys=(ops.public,), allow_unsigned=True).start()
        path.write_bytes(ops.sign(variant(2, 4)))
        watched.activation.look()
        assert watched.revisions == {"guarded": 4}

    def test_the_last_good_one_is_kept_with_its_signature_and_verified_again(
        self, path: Path, ops: Signer, tmp_path: Path, caplog
    ):
        state = tmp_path / "state"
        state.mkdir()

        def start(trusted: Signer) -> Fixture:
            return Fixture(BundleSource(path), state_folder=state, trusted_keys=(trusted.public,)).start()

        path.write_bytes(ops.sign(variant(1)))
        start(ops)
        path.unlink()
        assert start(ops).revisions == {"guarded": 3}
        with pytest.raises(InputError, match=r"b\.gates"):
            start(Signer(tmp_path / "others"))
        (kept,) = state.iterdir()
        kept.write_bytes(variant(1))
        with pytest.raises(InputError, match=r"b\.gates"):
            start(ops)
        assert caplog.text.count("is of no use") == 2


class TestEndedSignatures:
    """The fixture's time is the first of January 2026."""

    END = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    PAST = datetime.datetime(2025, 12, 31, tzinfo=datetime.UTC)

    @pytest.fixture
    def ops(self, tmp_path: Path) -> Signer:
        return Signer(tmp_path / "ops")

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        state = tmp_path / "state"
        state.mkdir()
        return state

    def _expiry(self, watched: Fixture) -> float | None:
        return watched.metrics.value("gate_bundle_signature_expiry_timestamp_seconds", model="guarded")

    def test_one_that_ends_while_it_guards_goes_on_guarding_and_is_reported(self, path: Path, ops: Signer, caplog):
        path.write_bytes(ops.sign(variant(1), self.END))
        watched = Fixture(BundleSource(path), trusted_keys=(ops.public,)).start()
        before = watched.registry.current
        assert (watched.failing, self._expiry(watched)) == ([], self.END.timestamp())
        (model,) = watched.status["models"]
        assert (model["signature_ends"], len(model["signed_by"])) == ("2026-01-02T00:00:00+00:00", 64)
        watched.now = self.END
        assert not watched.activation.look()
        assert not watched.activation.look(again=True)
        assert watched.registry.current is before
        assert watched.failing == [("b.gates", Reason.BUNDLE_EXPIRED)]
        assert watched.failures(Reason.BUNDLE_EXPIRED) == 1
        assert watched.metrics.value("gate_bundle_failing_places") == 1
        assert caplog.text.count("its signature ended at 2026-01-02 00:00:00 UTC") == 1

    def test_signed_anew_it_is_well_again(self, path: Path, ops: Signer):
        path.write_bytes(ops.sign(variant(1), self.END))
        watched = Fixture(BundleSource(path), trusted_keys=(ops.public,)).start()
        watched.now = self.END
        watched.activation.look()
        later = self.END + datetime.timedelta(days=90)
        path.write_bytes(ops.sign(variant(1), later))
        watched.activation.look()
        assert (watched.failing, self._expiry(watched)) == ([], later.timestamp())
        path.write_bytes(ops.sign(variant(1)))
        watched.activation.look()
        assert (watched.failing, self._expiry(watched)) == ([], None)
        assert watched.metrics.value("gate_bundle_activations_total", model="guarded") == 1

    def test_an_ended_one_is_not_activated(self, path: Path, ops: Signer):
        path.write_bytes(ops.sign(variant(1)))
        watched = Fixture(BundleSource(path), trusted_keys=(ops.public,)).start()
        path.write_bytes(ops.sign(variant(2, 4), self.PAST))
        assert not watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [("b.gates", Reason.BUNDLE_EXPIRED)])

    def test_a_named_file_that_has_ended_ends_the_start(self, path: Path, ops: Signer):
        path.write_bytes(ops.sign(variant(1), self.PAST))
        with pytest.raises(InputError, match=r"b\.gates: bundle_expired: .* 2025-12-31 .*sidecar sign"):
            Fixture(BundleSource(path), trusted_keys=(ops.public,)).start()

    def test_one_in_a_folder_is_waited_for(self, folder: Path, ops: Signer):
        (folder / "a.gates").write_bytes(ops.sign(variant(1), self.PAST))
        watched = Fixture(BundleSource(folder), trusted_keys=(ops.public,)).start()
        assert (watched.revisions, watched.registry.current.awaited) == ({}, (str(folder),))

    @pytest.mark.parametrize("gone", [False, True])
    def test_the_last_good_one_stands_in_although_it_ended_meanwhile(
        self, path: Path, ops: Signer, state: Path, gone: bool
    ):
        """Else a restart would turn a warning into an outage."""
        path.write_bytes(ops.sign(variant(1), self.END))
        made = {"trusted_keys": (ops.public,), "state_folder": state}
        Fixture(BundleSource(path), **made).start()
        if gone:
            path.unlink()
        restarted = Fixture(BundleSource(path), **made)
        restarted.now = self.END
        restarted.start()
        assert restarted.revisions == {"guarded": 3}
        assert restarted.status["models"][0]["is_last_good"]
        assert ("b.gates", Reason.BUNDLE_EXPIRED) in restarted.failing


class TestAdoptedSettings:
    """Other settings, while it runs."""

    def _modes(self, watched: Fixture) -> dict[str, str]:
        (model,) = watched.status["models"]
        return {each["id"]: each["mode"] for each in model["properties"]}

    def test_modes_change_at_once_and_who_took_the_bundles_before_keeps_them(self, path: Path, caplog):
        watched = Fixture(BundleSource(path)).start()
        before = watched.registry.current
        with caplog.at_level(logging.INFO):
            watched.adopt(BundleSource(path, modes=(("order", Mode.SHADOW),)))
        after = watched.registry.current
        assert after.bundles["guarded"].modes == (Mode.ENFORCE, Mode.SHADOW)
        assert before.bundles["guarded"].modes == (Mode.ENFORCE, Mode.ENFORCE)
        records = [json.loads(each.message) for each in caplog.records if each.name == "sidecar.audit"]
        assert records == [
            {
                "event": "mode_changed",
                "model": "guarded",
                "revision": 3,
                "property": "order",
                "before": "enforce",
                "after": "shadow",
            }
        ]
        assert "mode of property order of guarded: enforce -> shadow" in caplog.text

        def mode(name: str) -> float | None:
            return watched.metrics.value("gate_property_mode", model="guarded", property="order", mode=name)

        assert [mode(each) for each in ("enforce", "shadow", "off")] == [0, 1, 0]
        assert watched.metrics.value("gate_bundle_activations_total", model="guarded") == 1
        assert not watched.activation.look()
        assert watched.failing == []

    def test_a_property_that_is_off_watches_nothing_and_one_that_is_on_again_does(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        for mode, watches in ((Mode.OFF, [False, False]), (Mode.ENFORCE, [True, True])):
            watched.adopt(mode=mode)
            assert watched.registry.current.bundles["guarded"].watched.tolist() == watches

    def test_also_where_the_source_gives_nothing_any_more(self, path: Path, tmp_path: Path):
        state = tmp_path / "state"
        state.mkdir()
        watched = Fixture(BundleSource(path), state_folder=state).start()
        path.write_bytes(b"nonsense")
        restarted = Fixture(BundleSource(path), state_folder=state).start()
        for each in (watched, restarted):
            each.activation.look()
            each.adopt(mode=Mode.SHADOW)
            assert set(self._modes(each).values()) == {"shadow"}
            each.activation.look()
            assert set(self._modes(each).values()) == {"shadow"}

    def test_a_mode_for_a_property_that_is_not_there_leaves_the_modes_and_is_reported(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        watched.adopt(BundleSource(path, mode=Mode.OFF, modes=(("ordre", Mode.OFF),)))
        watched.activation.look()
        assert self._modes(watched) == {"ceiling": "enforce", "order": "enforce"}
        assert watched.failing == [("b.gates", Reason.BUNDLE_CONFLICT)]
        assert watched.failures(Reason.BUNDLE_CONFLICT) == 1
        watched.adopt(BundleSource(path, modes=(("order", Mode.OFF),)))
        watched.activation.look()
        assert (self._modes(watched), watched.failing) == ({"ceiling": "enforce", "order": "off"}, [])

    def test_outside_rows_and_rollback_follow_too(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        watched.adopt(outside=Outside.REFUSE, limit_rows=7)
        assert watched.registry.current.bundles["guarded"].policy.outside is Outside.REFUSE
        assert watched.registry.current.limit_rows == 7
        path.write_bytes(variant(2, 2))
        watched.activation.look()
        assert watched.revisions == {"guarded": 3}
        watched.adopt(allow_rollback=True)
        watched.activation.look()
        assert watched.revisions == {"guarded": 2}
        assert watched.registry.current.bundles["guarded"].policy.outside is Outside.REFUSE

    def test_another_source_for_the_same_model_takes_over(self, path: Path, folder: Path):
        watched = Fixture(BundleSource(path)).start()
        (folder / "next.gates").write_bytes(variant(2, 4))
        watched.adopt(BundleSource(folder / "next.gates"))
        assert watched.revisions == {"guarded": 3}
        watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 4}, [])

    def test_a_source_that_is_taken_out_leaves_its_model_guarded_and_is_reported(self, path: Path, folder: Path):
        (folder / "o.gates").write_bytes(variant(1, name="other"))
        watched = Fixture(BundleSource(path), BundleSource(folder)).start()
        watched.adopt(BundleSource(folder))
        watched.activation.look()
        assert watched.revisions == {"guarded": 3, "other": 3}
        assert watched.failing == [("b.gates", Reason.BUNDLE_UNREADABLE)]

    def test_a_new_source_that_gives_nothing_does_not_make_us_unready(self, path: Path, tmp_path: Path):
        """Else a slip in a file would take every sidecar that follows it out of service at once."""
        watched = Fixture(BundleSource(path)).start()
        watched.adopt(BundleSource(path), BundleSource(tmp_path / "none.gates"), HttpSource(NOWHERE))
        watched.activation.look()
        assert (watched.revisions, watched.registry.current.awaited) == ({"guarded": 3}, ())
        assert [reason for _, reason in watched.failing] == [Reason.BUNDLE_UNREADABLE] * 2

    def test_a_source_that_was_waited_for_and_is_taken_out_is_not_any_more(self, path: Path):
        watched = Fixture(BundleSource(path), HttpSource(NOWHERE)).start()
        watched.adopt(BundleSource(path))
        assert watched.registry.current.awaited == ()

    def test_a_secret_of_a_url_may_change(self, monkeypatch):
        asked = []

        def read(reader):
            asked.append(reader._url)
            return variant(1)

        monkeypatch.setattr("sidecar.proxy.offers.HttpReader.read", read)
        watched = Fixture(HttpSource(f"{NOWHERE}?token=1")).start()
        watched.adopt(HttpSource(f"{NOWHERE}?token=2"))
        watched.activation.look()
        assert asked == [f"{NOWHERE}?token=1", f"{NOWHERE}?token=2"]
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [])

    def test_modes_of_properties_that_are_gone_are_shown_no_more(self, path: Path):
        watched = Fixture(BundleSource(path)).start()
        path.write_bytes(bundle_bytes())
        watched.activation.look()
        value = watched.metrics.value
        assert value("gate_property_mode", model="guarded", property="asleep", mode="off") == 1
        path.write_bytes(variant(1))
        watched.activation.look()
        assert value("gate_property_mode", model="guarded", property="asleep", mode="off") is None
        assert value("gate_property_mode", model="guarded", property="order", mode="enforce") == 1


class TestModes:
    def _modes(self, watched: Fixture) -> dict[str, str]:
        (model,) = watched.status["models"]
        return {each["id"]: each["mode"] for each in model["properties"]}

    def test_a_sources_modes_hold_for_every_bundle_that_it_gives(self, path: Path):
        source = BundleSource(path, mode=Mode.OFF, modes=(("order", Mode.ENFORCE),))
        watched = Fixture(source, mode=Mode.SHADOW).start()
        assert self._modes(watched) == {"ceiling": "off", "order": "enforce"}
        path.write_bytes(variant(2, 4))
        watched.activation.look()
        assert self._modes(watched) == {"ceiling": "off", "order": "enforce"}

    def test_also_for_what_a_url_gives(self, monkeypatch):
        monkeypatch.setattr("sidecar.proxy.offers.HttpReader.read", lambda _: variant(1))
        watched = Fixture(HttpSource(NOWHERE, modes=(("order", Mode.OFF),)), mode=Mode.SHADOW).start()
        assert self._modes(watched) == {"ceiling": "shadow", "order": "off"}

    def test_a_bundle_without_a_property_that_has_a_mode_is_refused(self, path: Path):
        with pytest.raises(InputError, match=r"bundle_conflict.*ordre"):
            Fixture(BundleSource(path, modes=(("ordre", Mode.OFF),))).start()

    def test_the_same_bundle_from_another_source_takes_that_ones_modes(self, path: Path, folder: Path):
        watched = Fixture(BundleSource(path, mode=Mode.SHADOW), BundleSource(folder)).start()
        assert self._modes(watched) == {"ceiling": "shadow", "order": "shadow"}
        path.rename(folder / "b.gates")
        watched.activation.look()
        assert self._modes(watched) == {"ceiling": "enforce", "order": "enforce"}


def test_status_says_what_is_active_since_when_and_what_is_not_and_why(path: Path):
    watched = Fixture(BundleSource(path, "renamed")).start()
    path.write_bytes(b"nonsense")
    watched.activation.look()
    status = watched.status
    (model,), (failure,) = status["models"], status["not_active"]
    assert (model["model"], model["place"], model["revision"]) == ("renamed", f"renamed={path}", 3)
    assert model["active_since"] <= failure["since"] <= status["looked_at"]
    assert (failure["place"], failure["reason"]) == (f"renamed={path}", "bundle_magic")
    assert "gate bundle" in failure["message"]
