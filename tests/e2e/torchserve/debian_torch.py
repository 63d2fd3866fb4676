"""PyTorch out of Debian's packages, unpacked into a folder: nothing is installed on the machine, no root is needed.

apt keeps its lists and archives in a scratch folder and says what `apt-get install python3-torch` would add here. All
of it is fetched and unpacked, but for Debian's other Python packages: pip's take their place. apt checks signatures
and hashes.
"""

import re
import shutil
import sysconfig
from pathlib import Path

from tests.e2e.installing import ServerUnavailable, apt_options, run_installer

PACKAGE = "python3-torch=1.13.1*"


def unpack_torch(folder: Path) -> None:
    """Unpacks Debian's torch with the libraries that this machine lacks.

    Raises:
        ServerUnavailable: the machine has no apt, or apt has no such torch.
    """
    scratch = folder.parent / f"{folder.name}-apt"
    archives = scratch / "archives"
    for each in (archives / "partial", scratch / "lists" / "partial"):
        each.mkdir(parents=True)
    apt = ["apt-get", "--quiet", *apt_options(scratch)]
    run_installer([*apt, "update"])
    plan = run_installer([*apt, "--simulate", "--reinstall", "--no-install-recommends", "install", PACKAGE])
    run_installer([*apt, "download", *_wanted(plan)], cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        run_installer(["dpkg-deb", "--extract", str(archive), str(folder)])
    shutil.rmtree(scratch)
    shutil.rmtree(folder / "usr" / "share")


def _wanted(plan: str) -> list[str]:
    """From the lines `Inst name (version ...)` or `Inst name [installed] (version ...)`, name=version."""
    found = dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", plan, re.MULTILINE))
    if "python3-torch" not in found:
        raise ServerUnavailable("apt does not say what it would install for python3-torch")
    return [
        f"{name}={version}"
        for name, version in found.items()
        if name == "python3-torch" or not name.startswith("python3-")
    ]


def python_folder(folder: Path) -> Path:
    """What goes on PYTHONPATH."""
    return folder / "usr" / "lib" / "python3" / "dist-packages"


def library_folders(folder: Path) -> list[Path]:
    """What goes on LD_LIBRARY_PATH."""
    machine = sysconfig.get_config_var("MULTIARCH")
    libraries = folder / "usr" / "lib" / machine
    return [libraries, folder / "usr" / "lib", folder / "lib" / machine, libraries / "blas", libraries / "lapack"]
