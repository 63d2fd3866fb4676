"""Journey two: what runs, and its settings; and the demonstration of it all."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.cli.arguments import Commands, command
from sidecar.settings import kinds
from sidecar.settings.flags import add_flags, argument

if TYPE_CHECKING:
    from sidecar.proxy.live_settings import SettingsFile
    from sidecar.settings.resolve import Resolved


def add(commands: Commands) -> None:
    """Add them, in the order in which help lists them."""
    serve = command(commands, "serve", "stand in front of a model server and keep its answers safe", _serve)
    serve.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="a settings file; environment and flags stand over it"
    )
    add_flags(serve)

    config = command(commands, "config", "check and show the settings of serve", None)
    actions = config.add_subparsers(metavar="ACTION", required=True)
    check = command(actions, "check", "say whether serve would start with a settings file", _config_check)
    check.add_argument("config", type=Path, metavar="FILE.yaml", help="the settings file")
    check.add_argument("--text-only", action="store_true", help="do not read the bundles and keys that it names")
    add_flags(check)
    show = command(actions, "show", "the settings in force, with where each comes from", _config_show)
    show.add_argument("config", type=Path, nargs="?", metavar="FILE.yaml", help="the settings file, if there is one")
    add_flags(show)
    command(actions, "schema", "the JSON schema of the settings file", _config_schema)
    command(actions, "reference", "the reference page of the settings, in Markdown", _config_reference)
    command(actions, "failures", "the reference page of what can go wrong with a request", _config_failures)

    server = command(commands, "model-server", "serve any ONNX model over the Open Inference Protocol", _model_server)
    server.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="any model that onnxruntime runs")
    server.add_argument("--name", help="to serve it under (default: the file's name without .onnx)")
    server.add_argument(
        "--listen",
        type=argument(kinds.address),
        default="127.0.0.1:9000",
        metavar="HOST:PORT",
        help="default 127.0.0.1:9000; port 0 picks one",
    )

    demo = command(commands, "demo", "the whole loop on a model of our own, in half a minute", _demo)
    demo.add_argument("--keep", type=Path, metavar="DIR", help="keep the model, properties, bundle and logs there")


def _serve(arguments: argparse.Namespace) -> int:
    import asyncio

    from sidecar.proxy.log import start_logging
    from sidecar.proxy.serve import serve

    settings = _resolve(arguments).settings
    log = start_logging(2)  # standard error
    asyncio.run(serve(settings, _settings_file(arguments), lambda: log.lost))
    return 0


def _settings_file(arguments: argparse.Namespace) -> "SettingsFile | None":
    """What serve follows; None where there is no file, or a pipe, which can be read once only."""
    from sidecar.proxy.live_settings import SettingsFile
    from sidecar.settings.flags import values
    from sidecar.settings.resolve import resolve

    path: Path | None = arguments.config
    if path is None or not path.is_file():
        return None
    environment, flags = dict(os.environ), values(arguments)
    return SettingsFile(path, lambda content: resolve(path, environment, flags, content).settings)


def _resolve(arguments: argparse.Namespace) -> "Resolved":
    from sidecar.settings.flags import values
    from sidecar.settings.resolve import resolve

    resolved = resolve(arguments.config, os.environ, values(arguments))
    for note in resolved.notes:
        print(f"sidecar: note: {note}", file=sys.stderr)
    return resolved


def _config_check(arguments: argparse.Namespace) -> int:
    import logging

    from sidecar.proxy.serve import check_bundles

    settings = _resolve(arguments).settings
    logging.getLogger("sidecar").addHandler(logging.NullHandler())  # what it would log is told below
    if not arguments.text_only:
        found = check_bundles(settings)
        notes = [f"{failure.place}: {failure.reason}: {failure.message}" for failure in found.failures]
        notes += [
            f"models: {name!r} would not be guarded by any bundle; guarded: {', '.join(found.guards) or 'none'}"
            for name in found.unused_models
        ]
        for note in notes:
            print(f"sidecar: note: {note}", file=sys.stderr)
    print(f"{arguments.config}: fine")
    return 0


def _config_show(arguments: argparse.Namespace) -> int:
    from sidecar.settings.show import render

    print(render(_resolve(arguments)))
    return 0


def _config_schema(_: argparse.Namespace) -> int:
    from sidecar.settings.schema import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _config_reference(_: argparse.Namespace) -> int:
    from sidecar.settings.reference import reference

    print(reference(), end="")
    return 0


def _config_failures(_: argparse.Namespace) -> int:
    from sidecar.proxy.failure_reference import reference

    print(reference(), end="")
    return 0


def _model_server(arguments: argparse.Namespace) -> int:
    from sidecar.model_server.server import run_model_server

    run_model_server(arguments.model, arguments.name, arguments.listen, lambda line: print(line, flush=True))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from sidecar.demo.run import run_demo

    return run_demo(keep=arguments.keep, stream=sys.stdout)
