"""Files and folders of bundles: what is read, and when not."""

import os
import socket
from pathlib import Path

import pytest

from sidecar.bundle.files import read_regular
from sidecar.config import BundleSource, HttpSource
from sidecar.errors import BundleError, Reason
from sidecar.proxy.bundle_places import FileReader, places_of

LONG_AGO = 1_000_000_000


def _names(folder: Path) -> list[str]:
    return [place.name.removeprefix(f"{folder}/") for place in places_of(BundleSource(folder))]


def test_a_folders_places_are_its_bundles_in_order(tmp_path: Path):
    for name in ("b.gates", "a.gates", "notes.txt", ".hidden.gates"):
        (tmp_path / name).touch()
    (tmp_path / "..data").mkdir()
    assert _names(tmp_path) == ["a.gates", "b.gates"]


def test_a_file_that_is_not_there_is_a_place_all_the_same(tmp_path: Path):
    (place,) = places_of(BundleSource(tmp_path / "none.gates"))
    assert place.path == tmp_path / "none.gates"


def test_a_folder_that_cannot_be_listed_is_said_to_be(tmp_path: Path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sidecar.proxy.bundle_places.os.listdir", refuse)
    with pytest.raises(BundleError, match="cannot list the folder: Permission denied"):
        list(places_of(BundleSource(tmp_path)))


def test_a_path_that_cannot_even_be_looked_at_is_a_place_that_cannot_be_read(tmp_path: Path):
    (place,) = places_of(BundleSource(tmp_path / ("x" * 300)))
    assert place.path is not None
    with pytest.raises(BundleError, match="File name too long"):
        FileReader(place.path).read()


def test_a_source_is_named_without_what_may_be_secret():
    assert HttpSource("https://host:8443/b.gates?token=s3cret#f", "m").name == "m=https://host:8443/b.gates"


@pytest.mark.parametrize(
    "url", ["ftp://host/b", "http:///b", "https://me:pass@host/b", "file:///b", "host/b", "http://host/b?token=s\xe9"]
)
def test_a_url_that_is_none_for_bundles_is_refused(url: str):
    with pytest.raises(ValueError, match="URL"):
        HttpSource(url)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [_pipe, _socket, Path.mkdir])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, make):
    """Also where it takes a bundle's place between a look at the name and its opening."""
    make(tmp_path / "b.gates")
    with pytest.raises(OSError):  # noqa: PT011 (the systems words)
        read_regular(tmp_path / "b.gates", 10)
    with pytest.raises(BundleError):
        FileReader(tmp_path / "b.gates").read()


class TestFile:
    def _settle(self, path: Path, monkeypatch) -> None:
        """Let the file's last change be long ago."""
        monkeypatch.setattr("sidecar.proxy.watched_file.time.time", lambda: path.stat().st_ctime + 60)

    def test_a_settled_file_is_read_once(self, tmp_path: Path, monkeypatch):
        path = tmp_path / "b.gates"
        path.write_bytes(b"one")
        self._settle(path, monkeypatch)
        reader = FileReader(path)
        assert [reader.read(), reader.read()] == [b"one", None]
        reader.forget()
        assert reader.read() == b"one"

    def test_a_file_touched_just_now_is_read_again(self, tmp_path: Path):
        path = tmp_path / "b.gates"
        path.write_bytes(b"one")
        reader = FileReader(path)
        assert [reader.read(), reader.read()] == [b"one", b"one"]

    def test_the_same_size_and_an_old_modification_time_do_not_hide_a_change(self, tmp_path: Path, monkeypatch):
        path = tmp_path / "b.gates"
        path.write_bytes(b"one")
        os.utime(path, (LONG_AGO, LONG_AGO))
        self._settle(path, monkeypatch)
        reader = FileReader(path)
        reader.read()
        other = tmp_path / "other"
        other.write_bytes(b"two")
        os.utime(other, (LONG_AGO, LONG_AGO))
        other.replace(path)
        assert reader.read() == b"two"

    def test_a_file_that_went_and_came_back_is_read(self, tmp_path: Path, monkeypatch):
        path, aside = tmp_path / "b.gates", tmp_path / "aside"
        path.write_bytes(b"one")
        self._settle(path, monkeypatch)
        reader = FileReader(path)
        reader.read()
        path.rename(aside)
        with pytest.raises(BundleError) as failure:
            reader.read()
        assert failure.value.reason is Reason.BUNDLE_UNREADABLE
        aside.rename(path)
        assert reader.read() == b"one"

    def test_a_pipe_is_refused_rather_than_waited_for(self, tmp_path: Path):
        os.mkfifo(tmp_path / "b.gates")
        with pytest.raises(BundleError, match="no regular file"):
            FileReader(tmp_path / "b.gates").read()

    def test_no_more_is_read_than_a_bundle_may_have(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr("sidecar.proxy.bundle_places.MAX_BUNDLE_BYTES", 4)
        path = tmp_path / "b.gates"
        path.write_bytes(b"far too much")
        assert FileReader(path).read() == b"far t"
