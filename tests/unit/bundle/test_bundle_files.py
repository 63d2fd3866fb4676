"""Bundles on disk."""

import errno
import os
import stat
from pathlib import Path

import pytest

from sidecar.bundle.codec import encode
from sidecar.bundle.files import read_bundle, read_regular, write_file_atomically
from sidecar.bundle.values import Bundle
from sidecar.errors import BundleError, InputError, OperationError, Reason


def test_what_is_written_is_read(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "brake.gates"
    write_file_atomically(path, encode(bundle))
    content, read = read_bundle(path)
    assert content == encode(bundle)
    assert read.gates == bundle.gates
    assert os.listdir(tmp_path) == ["brake.gates"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_file_atomically(tmp_path / "one", b"")
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"a longer old content")
    write_file_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the bundle .*none\.gates: No such file or directory; give"):
        read_bundle(tmp_path / "none.gates")


def test_a_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        read_bundle(tmp_path)


def test_no_more_than_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("files", "container"):
        monkeypatch.setattr(f"sidecar.bundle.{module}.MAX_BUNDLE_BYTES", 1000)
    path = tmp_path / "large.gates"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    assert caught.value.reason is Reason.BUNDLE_TOO_LARGE


def test_a_missing_folder_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="No such file or directory; see that the folder exists"):
        write_file_atomically(tmp_path / "none" / "b.gates", b"")


def test_a_path_without_a_name_is_the_users_error() -> None:
    with pytest.raises(InputError, match="expected the path of a file"):
        write_file_atomically(Path(), b"content")


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.gates"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OperationError, match="No space left on device"):
        write_file_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b.gates"]


def test_a_regular_file_is_read_no_further_than_it_must_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    content, found = read_regular(path, 4)
    assert (content, found.st_size, found.st_ino) == (b"01234", 10, path.stat().st_ino)
    path.with_name("link").symlink_to(path)
    assert read_regular(path.with_name("link"), 100)[0] == b"0123456789"


@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="it is no regular file"):
            read_regular(path, 10)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_that_cannot_even_be_looked_at_is_an_operational_failure(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="File name too long"):
        write_file_atomically(tmp_path / ("x" * 300), b"")
