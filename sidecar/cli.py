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
from typing import TYPE_CHECKING

from sidecar.errors import BundleError, CommandError

if TYPE_CHECKING:
    from sidecar.config import BundleSource

_UNITS_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sidecar", description="Keeps a deployed neural network to its safety properties."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    compile_ = commands.add_parser("compile", help="verify a model against properties and write a gate bundle")
    compile_.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="the model, .onnx or .onnx.gz")
    compile_.add_argument(
        "--property", type=Path, required=True, action="append", metavar="P", help="a .yaml or .vnnlib file; repeatable"
    )
    compile_.add_argument("--output", type=Path, required=True, metavar="B.gates", help="the bundle to write")
    compile_.add_argument("--name", help="the served model's name (default: the property file's, then the file's stem)")
    compile_.add_argument("--revision", type=_positive, default=1, help="monotonic revision of the bundle (default 1)")
    compile_.add_argument("--action", choices=("project", "refuse"), help="overrides every property's action")
    compile_.add_argument("--time-limit", type=_seconds, default=60.0, metavar="60s", help="for all searches together")
    compile_.add_argument(
        "--max-regions", type=_counts, metavar="N[,N...]", help="boxes per search; repeats a time-limited run exactly"
    )
    compile_.add_argument(
        "--minimum-volume",
        type=_share,
        default=1e-6,
        metavar="SHARE",
        help="of a region's box; smaller undecided leaves stay open (default 1e-6; larger: a smaller bundle)",
    )
    compile_.set_defaults(command=_compile)

    inspect = commands.add_parser("inspect", help="what is in a bundle")
    inspect.add_argument("bundle", type=Path, metavar="B.gates")
    inspect.add_argument("--json", action="store_true", help="for machines")
    inspect.set_defaults(command=_inspect)

    try_ = commands.add_parser("try", help="one row explained: which gates, what would be sent, why")
    try_.add_argument("bundle", type=Path, metavar="B.gates")
    try_.add_argument(
        "--input", required=True, metavar="JSON", help="a row, e.g. '{\"gap\": 12}' or '{\"tensor\": [...]}'"
    )
    answer = try_.add_mutually_exclusive_group()
    answer.add_argument("--model", type=Path, metavar="M.onnx", help="the model that answers")
    answer.add_argument("--answer", metavar="JSON", help="an answer to judge, e.g. '{\"scores\": [...]}'")
    try_.set_defaults(command=_try)

    serve = commands.add_parser("serve", help="stand in front of a model server")
    serve.add_argument("--bundle", required=True, action="append", metavar="[NAME=]B.gates", help="repeatable")
    serve.add_argument("--upstream", required=True, metavar="H:P", help="the model server's gRPC address")
    serve.add_argument(
        "--listen", default="127.0.0.1:9001", metavar="H:P", help="default 127.0.0.1:9001; port 0 picks one"
    )
    serve.add_argument(
        "--admin", default="127.0.0.1:9002", metavar="H:P", help="metrics and health; default 127.0.0.1:9002"
    )
    serve.add_argument("--mode", choices=("enforce", "shadow", "off"), help="overrides every property's mode")
    serve.add_argument(
        "--outside", choices=("pass", "refuse"), default="pass", help="rows in no property's domain (default pass)"
    )
    serve.set_defaults(command=_serve)

    server = commands.add_parser("model-server", help="serve an ONNX model over the Open Inference Protocol")
    server.add_argument("--model", type=Path, required=True, metavar="M.onnx")
    server.add_argument("--name", help="default: the file's stem")
    server.add_argument(
        "--listen", default="127.0.0.1:9000", metavar="H:P", help="default 127.0.0.1:9000; port 0 picks one"
    )
    server.set_defaults(command=_model_server)

    demo = commands.add_parser("demo", help="the whole loop on a model of our own, in half a minute")
    demo.add_argument("--keep", type=Path, metavar="DIR", help="keep the files that the demo makes")
    demo.set_defaults(command=_demo)
    return parser


def _compile(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import write_file_atomically
    from sidecar.compiler.pipeline import CompileOptions, compile_bundle, with_batch_axis
    from sidecar.compiler.report import Reporter, summary
    from sidecar.gates.values import Action
    from sidecar.network.onnx_reader import read_model
    from sidecar.properties.reader import read_properties

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
    print(summary(compiled, arguments.output))
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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _share(text: str) -> float:
    value = float(text)
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
