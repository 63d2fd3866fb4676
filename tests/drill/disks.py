"""A disk that can be full, and bundles that are swapped meanwhile."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.bundle.files import write_file_atomically
from tests.drill.ground import NotRun

DISK_BYTES = 64 * 1024 * 1024
"""Room for both bundles twice, and for the log."""

SWAP_SECONDS = 0.7


class SmallDisk:
    """A file system of its own at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """To the last byte, and nothing that is deleted afterwards makes room."""
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"\0" * 4096):
                pass

    def free(self) -> None:
        """As somebody clears a disk."""
        (self.folder / "filler").unlink()


@contextlib.contextmanager
def folder_on_small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A tmpfs of a few megabytes, where we may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", "") or error
        raise NotRun(f"a full disk needs a small file system to fill, and mounting a tmpfs failed: {why}") from error
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@contextlib.contextmanager
def swapping_bundles(bundles: Sequence[Path], folder: Path) -> Iterator[Path]:
    """The place of a bundle, where two of them take turns."""
    place, contents, enough = folder / "swapped.gates", [each.read_bytes() for each in bundles], threading.Event()
    place.write_bytes(contents[0])

    def keep_swapping() -> None:
        turn = 0
        while not enough.wait(SWAP_SECONDS):
            turn += 1
            write_file_atomically(place, contents[turn % len(contents)])

    thread = threading.Thread(target=keep_swapping)
    thread.start()
    try:
        yield place
    finally:
        enough.set()
        thread.join()
