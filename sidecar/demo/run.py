"""``sidecar demo``: the whole loop with real parts, from a model and its properties to corrected answers on the wire.

Verify -> start a model server and a sidecar in front of it, as processes -> send the same requests to both ->
judge every answer. Whatever happens, the processes end and the files that nobody asked to keep are gone.
"""

import contextlib
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn, TextIO

import numpy as np

from sidecar.bundle.files import write_file_atomically
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import CompiledBundle, compile_bundle
from sidecar.compiler.report import Reporter
from sidecar.compiler.stated import with_batch_axis
from sidecar.demo.driving import MODEL_PATH, PROPERTIES_PATH
from sidecar.demo.exchange import Exchange, connected, exchanges
from sidecar.demo.judge import Verdict, judge
from sidecar.demo.parts import running
from sidecar.demo.report import most_telling, next_steps, proved, story, table
from sidecar.demo.screen import Screen
from sidecar.demo.traffic import requests as traffic
from sidecar.gates.values import Mode
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties

REQUESTS: Final = 1500
COMPILE_SECONDS: Final = 15.0
MINIMUM_VOLUME: Final = 1e-5
"""Coarser than the default: a bundle of some hundred kilobytes shows as much."""

_MODEL_SERVER_PORT: Final = re.compile(r"serving .* on \S*:(\d+)")
_TRANSPORT: Final = re.compile(r"calls are carried by the (\w+) transport")
_SIDECAR_PORT: Final = re.compile(r"listening on (?:port |\S*:)(\d+)")


def run_demo(keep: Path | None, stream: TextIO, requests: int = REQUESTS, mode: Mode = Mode.ENFORCE) -> int:
    """Show the main job.

    Args:
        keep: a folder for model, properties, bundle and logs; None to leave nothing behind.
        stream: where the person reads.
        requests: how many are sent.
        mode: of the sidecar; in any other than enforce the model's violations get through, and the demo fails.

    Returns:
        0 if no violation reached the client and everything else arrived to the byte, else 1.

    Raises:
        CommandError: something could not be read, started or reached.
    """
    screen = Screen(stream)
    with _ended_by_sigterm(), _folder(keep) as folder:
        screen.heading("Gate Sidecar: a driving assistant that shall keep a safe distance")
        model, properties = _copied(MODEL_PATH, folder), _copied(PROPERTIES_PATH, folder)
        compiled = _compiled(model, properties, folder / "safe_distance.gates", screen, stream)
        verdict = judge(compiled.bundle.gates, _exchanged(compiled, model, folder, mode, requests, screen))
        _tell(verdict, compiled, keep, screen)
    return 0 if verdict.kept else 1


def _compiled(model: Path, properties: Path, target: Path, screen: Screen, stream: TextIO) -> CompiledBundle:
    screen.lines(f"1. Verify {model.name} against {properties.name}: where is each property proved?")
    began = time.monotonic()
    read = read_model(model)
    files = [read_properties(properties, read.network.signature)]
    options = CompileOptions(time_limit_seconds=COMPILE_SECONDS, minimum_volume=MINIMUM_VOLUME)
    with Reporter(stream) as reporter:
        compiled = compile_bundle(with_batch_axis(read, files), files, options, reporter.show)
    write_file_atomically(target, compiled.content)
    screen.lines(*proved(compiled.bundle))
    found = sum(map(len, compiled.counterexamples))
    size, seconds = len(compiled.content), time.monotonic() - began
    screen.lines(f"   {found} counterexamples, a gate bundle of {size:,} bytes, in {seconds:.1f} s.")
    return compiled


def _exchanged(
    compiled: CompiledBundle, model: Path, folder: Path, mode: Mode, requests: int, screen: Screen
) -> list[Exchange]:
    """Start both servers, send everything to both, stop them."""
    screen.progress("2. Start a model server, and the sidecar in front of it ...")
    bundle = compiled.bundle
    name = bundle.manifest.name
    sent = traffic(bundle.gates, np.concatenate(compiled.counterexamples), requests)
    serve_model = ["model-server", "--model", str(model), "--name", name, "--listen", "127.0.0.1:0"]
    serve = ["serve", "--bundle", str(folder / "safe_distance.gates"), "--listen", "127.0.0.1:0"]
    serve += ["--admin", "127.0.0.1:0", "--mode", mode.value]
    with contextlib.ExitStack() as stack:
        log = folder / "model-server.log"
        model_port = stack.enter_context(running("model server", serve_model, _MODEL_SERVER_PORT, log))
        serve += ["--upstream", f"127.0.0.1:{model_port}"]
        log = folder / "sidecar.log"
        sidecar_port = stack.enter_context(running("sidecar", serve, _SIDECAR_PORT, log))
        direct = stack.enter_context(connected("model server", model_port))
        guarded = stack.enter_context(connected("sidecar", sidecar_port))
        screen.lines(f"2. Start a model server on port {model_port}, and the sidecar in front of it on {sidecar_port}.")
        screen.lines(f"   Calls are carried by the {_carried_by(log)}.")

        def report(done: int) -> None:
            if done % 25 == 0:
                screen.progress(f"3. Send requests to both over gRPC: {done:,} of {requests:,}")

        received = list(exchanges(name, bundle.manifest.signature, sent, direct, guarded, report))
    screen.lines(
        f"3. Send {requests:,} requests to both over gRPC: any situations, the domains', counterexamples; judge all."
    )
    return received


def _carried_by(log: Path) -> str:
    """The transport, as the sidecar's log names it, and how to get the other one."""
    named = _TRANSPORT.search(log.read_text())
    if named is not None and named[1] == "native":
        return "native transport"
    return "portable transport; the native one takes cargo: make native"


def _tell(verdict: Verdict, compiled: CompiledBundle, keep: Path | None, screen: Screen) -> None:
    screen.lines("", *table(verdict), "")
    telling = most_telling(verdict.corrections, compiled.bundle) if verdict.corrections else None
    if telling is not None:
        screen.heading("One of the violations")
        screen.lines(*story(telling, compiled.bundle), "")
    if verdict.kept:
        screen.verdict("No violation reached the client; what was fine arrived to the byte.", good=True)
    else:
        touched = verdict.fine - verdict.identical
        leaked = f"{verdict.violations_after:,} violations reached the client"
        screen.verdict(f"FAILED: {leaked}, {touched:,} fine answers did not arrive to the byte.", good=False)
    screen.lines("")
    screen.heading("Try next")
    screen.lines(*next_steps(keep, telling))


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
    else:
        with tempfile.TemporaryDirectory(prefix="sidecar-demo-") as temporary:
            yield Path(temporary)


def _copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copy(source, folder))


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what was started is ended. Main thread only, as Python has it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
