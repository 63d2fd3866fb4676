"""The command line: parses arguments, imports the room that a command needs, turns errors into exit codes.

Exit status: 0 done, 1 the answer is no, 2 used wrongly or unreadable input, 3 failed, 130 interrupted.
"""

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sidecar.errors import BundleError, CommandError

if TYPE_CHECKING:
    from sidecar.config import BundleSource

_LARGEST_PORT = 65535

_UNITS_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # gRPC's C core would put lines of its own beside our messages; whoever wants them sets the variable.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except CommandError as error:
        return _complain(str(error), error.exit_code)
    except BundleError as error:
        return _complain(f"{error.message} ({error.reason})", 2)
    except BrokenPipeError:  # the reader of our output has enough, as in ``sidecar inspect B | head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _complain(f"{error.filename or 'input/output'}: {error.strerror or error}", 3)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _complain(message: str, status: int) -> int:
    print(f"sidecar: {message}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of ours; the usage stands in --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sidecar",
        description="Keeps a deployed neural network to its safety properties: compile a gate bundle, then serve.",
        epilog="'sidecar COMMAND --help' tells the options of a command; 'sidecar demo' shows the whole loop.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    compile_ = _command(commands, "compile", "verify a model against properties, write a gate bundle", _compile)
    compile_.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="the model, .onnx or .onnx.gz")
    compile_.add_argument(
        "--property",
        type=Path,
        required=True,
        action="append",
        metavar="P.yaml",
        help="what must hold: a .yaml or .vnnlib file; repeatable",
    )
    compile_.add_argument("--output", type=Path, required=True, metavar="B.gates", help="the bundle to write")
    compile_.add_argument(
        "--name", help="the name under which the model is served (default: the property file's, else the model file's)"
    )
    compile_.add_argument(
        "--revision", type=_positive, default=1, metavar="N", help="of the bundle, for logs and metrics (default 1)"
    )
    compile_.add_argument("--action", choices=("project", "refuse"), help="instead of every property's own action")
    compile_.add_argument(
        "--time-limit",
        type=_seconds,
        default=60.0,
        metavar="TIME",
        help="for all proofs together, e.g. 500ms, 60s, 5m (default 60s); what is not proved by then stays open",
    )
    compile_.add_argument(
        "--max-regions",
        type=_counts,
        metavar="N[,N...]",
        help="boxes examined per search; with the numbers that inspect shows, the same bundle comes out again",
    )
    compile_.add_argument(
        "--minimum-volume",
        type=_share,
        default=1e-6,
        metavar="SHARE",
        help="of a domain's box; smaller undecided boxes stay open (default 1e-6; larger: a smaller bundle)",
    )

    inspect = _command(commands, "inspect", "what is in a bundle: properties, domains, what is proved", _inspect)
    inspect.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    inspect.add_argument("--json", action="store_true", help="for programs; numbers exact, in wire units")

    try_ = _command(commands, "try", "explain one row: which properties apply, what the client gets, why", _try)
    try_.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    try_.add_argument(
        "--input",
        required=True,
        metavar="JSON",
        help="a row: by the property file's names, in its units, or by tensors, e.g. '{\"features\": [0.1, 0.6]}'",
    )
    answer = try_.add_mutually_exclusive_group()
    answer.add_argument("--model", type=Path, metavar="M.onnx", help="the model that answers")
    answer.add_argument("--answer", metavar="JSON", help="an answer to judge, e.g. '{\"scores\": [...]}'")

    serve = _command(commands, "serve", "stand in front of a model server and keep its answers safe", _serve)
    serve.add_argument(
        "--bundle",
        required=True,
        action="append",
        metavar="[NAME=]B.gates",
        help="what compile wrote; NAME: the served model's name, where it is not the bundle's; repeatable",
    )
    serve.add_argument(
        "--upstream",
        required=True,
        type=_target,
        metavar="HOST:PORT",
        help="the model server's gRPC address, or unix:/path",
    )
    serve.add_argument(
        "--listen",
        type=_target,
        default="127.0.0.1:9001",
        metavar="HOST:PORT",
        help="for clients (default 127.0.0.1:9001; 0.0.0.0:9001 for other hosts too; port 0 picks one), or unix:/path",
    )
    serve.add_argument(
        "--admin",
        type=_address,
        default="127.0.0.1:9002",
        metavar="HOST:PORT",
        help="for /metrics, /livez, /readyz, /status (default 127.0.0.1:9002)",
    )
    serve.add_argument(
        "--mode",
        choices=("enforce", "shadow", "off"),
        help="instead of every property's own mode; shadow records what would be done and changes nothing",
    )
    serve.add_argument(
        "--outside",
        choices=("pass", "refuse"),
        default="pass",
        help="what to do with rows in no property's domain (default pass: the model's answer as it is)",
    )

    server = _command(commands, "model-server", "serve any ONNX model over the Open Inference Protocol", _model_server)
    server.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="any model that onnxruntime runs")
    server.add_argument("--name", help="to serve it under (default: the file's name without .onnx)")
    server.add_argument(
        "--listen",
        type=_address,
        default="127.0.0.1:9000",
        metavar="HOST:PORT",
        help="default 127.0.0.1:9000; port 0 picks one",
    )

    demo = _command(commands, "demo", "the whole loop on a model of our own, in half a minute", _demo)
    demo.add_argument("--keep", type=Path, metavar="DIR", help="keep the model, properties, bundle and logs there")
    return parser


def _command(
    commands: "argparse._SubParsersAction[_Parser]", name: str, what: str, run: Callable[[argparse.Namespace], int]
) -> _Parser:
    parser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.set_defaults(command=run)
    return parser


def _compile(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import require_writable, write_file_atomically
    from sidecar.compiler.pipeline import CompileOptions, compile_bundle, with_batch_axis
    from sidecar.compiler.report import Reporter, summary
    from sidecar.gates.values import Action
    from sidecar.network.onnx_reader import read_model
    from sidecar.properties.reader import read_properties

    require_writable(arguments.output)
    model = read_model(arguments.model)
    files = [read_properties(path, model.network.signature) for path in arguments.property]
    model = with_batch_axis(model, files)
    options = CompileOptions(
        name=arguments.name,
        revision=arguments.revision,
        action=None if arguments.action is None else Action(arguments.action),
        time_limit_seconds=arguments.time_limit,
        max_regions=arguments.max_regions,
        minimum_volume=arguments.minimum_volume,
    )
    with Reporter(sys.stderr) as reporter:
        compiled = compile_bundle(model, files, options, reporter.show)
    write_file_atomically(arguments.output, compiled.content)
    print(summary(compiled, arguments.model, arguments.output))
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import read_bundle
    from sidecar.bundle.summary import describe, render

    _, bundle = read_bundle(arguments.bundle)
    print(json.dumps(describe(bundle), indent=2) if arguments.json else render(bundle))
    return 0


def _try(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import read_bundle
    from sidecar.compiler.explain import explain

    _, bundle = read_bundle(arguments.bundle)
    print(explain(bundle, arguments.input, arguments.model, arguments.answer))
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    import asyncio
    import logging

    from sidecar.config import Outside, ServeSettings
    from sidecar.gates.values import Mode
    from sidecar.proxy.serve import serve

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    settings = ServeSettings(
        bundles=tuple(_bundle_source(text) for text in arguments.bundle),
        upstream=arguments.upstream,
        listen=arguments.listen,
        admin=arguments.admin,
        mode=None if arguments.mode is None else Mode(arguments.mode),
        outside=Outside(arguments.outside),
    )
    asyncio.run(serve(settings))
    return 0


def _bundle_source(text: str) -> "BundleSource":
    from sidecar.config import BundleSource

    name, separator, path = text.partition("=")
    return BundleSource(Path(path), name) if separator else BundleSource(Path(text))


def _model_server(arguments: argparse.Namespace) -> int:
    from sidecar.model_server.server import run_model_server

    run_model_server(arguments.model, arguments.name, arguments.listen, lambda line: print(line, flush=True))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from sidecar.demo.run import run_demo

    return run_demo(keep=arguments.keep, stream=sys.stdout)


def _address(text: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:/\[\]]+):([0-9]{1,5})", text)
    if match is None or int(match[2]) > _LARGEST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address: write HOST:PORT, e.g. 127.0.0.1:9001, localhost:8001 or [::1]:9001"
        )
    return text


def _target(text: str) -> str:
    """A gRPC address: over TCP, or a Unix socket."""
    if text.startswith("unix:/"):
        return text
    if text.startswith("unix:"):
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write the whole path, e.g. unix:/run/gate.sock")
    return _address(text)


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write a number above 0, at most 1")
    return value


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|min|h)", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration: write a number with a unit, e.g. 500ms, 60s, 5m, 1h"
        )
    return float(match[1]) * _UNITS_SECONDS[match[2]]


if __name__ == "__main__":
    sys.exit(main())
