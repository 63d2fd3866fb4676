"""h2load, and what it says, checked: it takes a gRPC error for a success, so lengths are compared to the byte."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from statistics import median

from tests.benchmarks.machine import on_cores
from tests.benchmarks.workload import METHOD

TIMEOUT_SECONDS = 120
GRPC_HEAD = 5


class LoadWentWrong(Exception):
    """Not every call was answered as it has to be: a figure would mean nothing."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """How many connections ask, over how many streams each; whether load and upstream are on the server's core."""

    connections: int
    streams: int
    one_core: bool = False

    def __str__(self) -> str:
        return f"{self.connections} x {self.streams}" + (", all on one core" if self.one_core else "")


@dataclasses.dataclass(frozen=True)
class Load:
    """What clients saw."""

    requests: int
    seconds: float
    p50_us: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def is_here() -> bool:
    """Whether there is an h2load."""
    return shutil.which("h2load") is not None


def run_load(address: str, body: Path, answer_bytes: int, shape: Shape, requests: int, core: int) -> Load:
    """A closed loop of ModelInfer with one request.

    Args:
        body: a file with the request, framed.
        answer_bytes: of each right answer's message.

    Raises:
        LoadWentWrong: a call failed, or the answers do not have the right length in all.
    """
    log = body.with_suffix(".log")
    log.unlink(missing_ok=True)  # h2load appends
    command = ["h2load", "-n", str(requests), "-c", str(shape.connections), "-m", str(shape.streams)]
    command += ["-d", str(body), "--log-file", str(log)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{address}{METHOD}"]
    with on_cores({core}):
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    said = done.stdout + done.stderr
    _require(f"{requests} succeeded, 0 failed, 0 errored, 0 timeout" in said, said)
    _require(f"status codes: {requests} 2xx" in said, said)
    _require(_number(r"\((\d+)\) data", said) == requests * (GRPC_HEAD + answer_bytes), said)
    durations = [int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines()]
    _require(len(durations) == requests, f"{len(durations)} lines in the log of {requests} requests")
    return Load(requests, _seconds(said), median(durations))


def framed(message: bytes) -> bytes:
    """With gRPC's five bytes in front."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _require(holds: bool, said: str) -> None:
    if not holds:
        raise LoadWentWrong(f"not every answer was right; h2load says:\n{said}")


def _number(pattern: str, said: str) -> int:
    found = re.search(pattern, said)
    _require(found is not None, said)
    return int(found[1])


def _seconds(said: str) -> float:
    value, unit = re.search(r"finished in ([\d.]+)(us|ms|s|m)", said).groups()
    return float(value) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[unit]
