"""A Triton that is killed, stopped, frozen and started again, always on the same ports, like a container restarts."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.processes import RunningServer, free_ports, running_server
from tests.e2e.triton.launcher import ServedFolder, ServedModel, TritonInstall, triton_launch, write_repository

POLL = ("--model-control-mode=poll", "--repository-poll-secs=1")
"""Triton takes what changes in its repository."""

BACKENDS = ("python", "onnxruntime")
"""Those that talk to their models over shared memory."""


class TritonProcess:
    """One model server; ``address`` stays the same."""

    def __init__(
        self,
        install: TritonInstall,
        models: Sequence[ServedModel | ServedFolder],
        folder: Path,
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir()
        self.repository = folder / "models"
        write_repository(self.repository, models)
        self._ports = free_ports(2)
        self._shared_memory = f"drill_{os.getpid()}_{self._ports[0]}_"
        regions = [f"--backend-config={name},shm-region-prefix-name={self._shared_memory}" for name in BACKENDS]
        self._launch = triton_launch(install, folder, [*options, *regions])
        self._running = contextlib.ExitStack()
        self._server: RunningServer | None = None

    @property
    def address(self) -> str:
        """``127.0.0.1:port``"""
        return f"127.0.0.1:{self._ports[0]}"

    def start(self) -> None:
        """Returns when it is ready."""
        self._server = self._running.enter_context(running_server(self._launch, lambda: self._ports))

    def stop(self) -> None:
        """SIGTERM, and wait for its end. What a killed one has left in shared memory goes, too."""
        self._running.close()
        for region in Path("/dev/shm").glob(f"{self._shared_memory}*"):  # noqa: S108 (Triton's place for it)
            region.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, its backends included."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    @property
    def has_crashed(self) -> bool:
        """Whether its process has ended by itself."""
        assert self._server is not None
        status = Path(f"/proc/{self._server.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "Z"

    def restart(self) -> None:
        """What is left of it goes, and it starts anew."""
        self.stop()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        os.killpg(self._server.pid, number)


@contextlib.contextmanager
def running_triton_process(
    install: TritonInstall,
    models: Sequence[ServedModel | ServedFolder],
    folder: Path,
    options: Sequence[str] = (),
) -> Iterator[TritonProcess]:
    """A ready one, ended when the block is left."""
    server = TritonProcess(install, models, folder, options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
