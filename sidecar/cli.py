"""The command line: parses arguments, imports the room that a command needs, turns errors into exit codes.

Exit status: 0 done, 1 the answer is no, 2 used wrongly or unreadable input, 3 failed, 4 unknown (verify),
130 interrupted.
"""

import argparse
import datetime
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sidecar.errors import BundleError, CommandError, InputError, OperationError
from sidecar.properties.source import Complaint
from sidecar.settings import kinds
from sidecar.settings.flags import add_flags, argument

if TYPE_CHECKING:
    from sidecar.bundle.values import Bundle
    from sidecar.proxy.live_settings import SettingsFile
    from sidecar.remote.reference import Reference
    from sidecar.settings.resolve import Resolved


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
    compile_.add_argument(
        "--model-version",
        action="append",
        default=[],
        type=argument(kinds.name),
        metavar="V",
        help="the served model's version that this is; repeatable; answers of other versions are reported as unproved",
    )
    compile_.add_argument("--action", choices=("project", "refuse"), help="instead of every property's own action")
    compile_.add_argument(
        "--time-limit",
        type=argument(kinds.seconds),
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
    compile_.add_argument(
        "--without-proof",
        action="store_true",
        help="guard any model of numbers that onnxruntime runs, integer tensors included; every region stays open",
    )

    compile_.add_argument(
        "--no-certificate",
        action="store_true",
        help="do not make the certificate that `sidecar check` needs; for experiments",
    )
    _add_arithmetic(compile_)
    _add_samples(compile_)
    compile_.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on from this file, if it is there; where the time limit stops the proofs, write there how to go on",
    )
    compile_.add_argument(
        "--report", type=Path, metavar="R.html", help="write down what was found for people, as one HTML page"
    )

    verify = _command(commands, "verify", "does a model keep properties? a proof, or a counterexample", _verify)
    verify.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="the model, .onnx or .onnx.gz")
    verify.add_argument(
        "--property",
        type=Path,
        required=True,
        action="append",
        metavar="P.vnnlib",
        help="what must hold: a .yaml or .vnnlib file (a .vnnlib.gz too); repeatable",
    )
    verify.add_argument(
        "--time-limit",
        type=argument(kinds.seconds),
        default=60.0,
        metavar="TIME",
        help="for all properties together, e.g. 500ms, 60s, 5m (default 60s)",
    )
    _add_arithmetic(verify)
    verify.add_argument(
        "--workers", type=_positive, metavar="N", help="threads (default: as many as there are processors to use)"
    )
    verify.add_argument(
        "--counterexample",
        type=Path,
        metavar="FILE",
        help="write VNN-COMP's result file: sat (violated), unsat (holds), unknown or timeout; after sat, where",
    )
    verify.add_argument("--json", action="store_true", help="for programs; values on the wire")

    check = _command(commands, "check", "prove again, by code of its own, all that a bundle says", _check)
    check.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    check.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="the model that it is about")
    check.add_argument(
        "--certificate", type=Path, metavar="B.gates.cert", help="the bundle's certificate (default: beside the bundle)"
    )
    check.add_argument(
        "--workers", type=_positive, metavar="N", help="processes (default: as many as there are processors to use)"
    )
    check.add_argument("--json", action="store_true", help="for programs")

    inspect = _command(commands, "inspect", "what is in a bundle: properties, domains, what is proved", _inspect)
    inspect.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    inspect.add_argument("--json", action="store_true", help="for programs; numbers exact, in wire units")
    inspect.add_argument(
        "--model", type=Path, metavar="M.onnx", help="the model, to see at random points what it violates"
    )
    _add_samples(inspect)

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

    diff = _command(commands, "diff", "what changed between two bundles; exit status 1 where something did", _diff)
    diff.add_argument("before", type=Path, metavar="A.gates", help="the older bundle")
    diff.add_argument("after", type=Path, metavar="B.gates", help="the newer one")
    diff.add_argument("--json", action="store_true", help="for programs; numbers exact, in wire units")

    keygen = _command(commands, "keygen", "make a key pair to sign bundles with", _keygen)
    keygen.add_argument(
        "--output", type=Path, required=True, metavar="KEY", help="the private key; KEY.pub is the public one"
    )

    sign = _command(commands, "sign", "sign a bundle, so that serve --trust accepts it", _sign)
    sign.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    sign.add_argument("--key", type=Path, required=True, metavar="KEY", help="the private key that keygen wrote")
    sign.add_argument(
        "--expires",
        metavar="WHEN",
        help="until when serve activates it: 90d from now, or 2027-01-01 (default: for ever); it guards on after that",
    )
    sign.add_argument("--output", type=Path, metavar="S.gates", help="the signed bundle (default: B.gates itself)")

    push = _command(commands, "push", "put a bundle into a registry, for serve to pull by its digest", _push)
    push.add_argument("bundle", type=Path, metavar="B.gates", help="what compile or sign wrote")
    push.add_argument(
        "reference", type=argument(_reference), metavar="oci://HOST/REPOSITORY[:TAG]", help="oci+http:// without TLS"
    )
    push.add_argument("--credentials", type=Path, metavar="FILE", help="what docker login wrote (default: anonymous)")
    push.add_argument(
        "--timeout",
        type=argument(kinds.positive_seconds),
        default=60.0,
        metavar="TIME",
        help="for all of it (default 60s)",
    )

    serve = _command(commands, "serve", "stand in front of a model server and keep its answers safe", _serve)
    serve.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="a settings file; environment and flags stand over it"
    )
    add_flags(serve)

    config = _command(commands, "config", "check and show the settings of serve", None)
    actions = config.add_subparsers(metavar="ACTION", required=True)
    check = _command(actions, "check", "say whether serve would start with a settings file", _config_check)
    check.add_argument("config", type=Path, metavar="FILE.yaml", help="the settings file")
    check.add_argument("--text-only", action="store_true", help="do not read the bundles and keys that it names")
    add_flags(check)
    show = _command(actions, "show", "the settings in force, with where each comes from", _config_show)
    show.add_argument("config", type=Path, nargs="?", metavar="FILE.yaml", help="the settings file, if there is one")
    add_flags(show)
    _command(actions, "schema", "the JSON schema of the settings file", _config_schema)
    _command(actions, "reference", "the reference page of the settings, in Markdown", _config_reference)
    _command(actions, "failures", "the reference page of what can go wrong with a request", _config_failures)

    server = _command(commands, "model-server", "serve any ONNX model over the Open Inference Protocol", _model_server)
    server.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="any model that onnxruntime runs")
    server.add_argument("--name", help="to serve it under (default: the file's name without .onnx)")
    server.add_argument(
        "--listen",
        type=argument(kinds.address),
        default="127.0.0.1:9000",
        metavar="HOST:PORT",
        help="default 127.0.0.1:9000; port 0 picks one",
    )

    demo = _command(commands, "demo", "the whole loop on a model of our own, in half a minute", _demo)
    demo.add_argument("--keep", type=Path, metavar="DIR", help="keep the model, properties, bundle and logs there")
    return parser


def _command(
    commands: "argparse._SubParsersAction[_Parser]",
    name: str,
    what: str,
    run: Callable[[argparse.Namespace], int] | None,
) -> _Parser:
    parser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    if run is not None:
        parser.set_defaults(command=run)
    return parser


def _add_arithmetic(parser: _Parser) -> None:
    parser.add_argument(
        "--arithmetic",
        choices=("ieee32", "ieee64", "tf32", "bf16", "fp16", "ieee16"),
        help="what the served model computes in, which the proofs cover besides real arithmetic (default: its tensors' "
        "IEEE format); tf32, bf16, fp16: operands in that format and sums in float32, as accelerators do",
    )


def _compile(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import require_writable, write_file_atomically
    from sidecar.bundle.values import Arithmetic
    from sidecar.certificate.codec import certificate_path
    from sidecar.compiler import search_state
    from sidecar.compiler.opaque import read_opaque_model
    from sidecar.compiler.pipeline import CompileOptions, compile_bundle, with_batch_axis
    from sidecar.compiler.report import Reporter, summary
    from sidecar.compiler.report_page import page
    from sidecar.compiler.sampling import sample
    from sidecar.gates.values import Action
    from sidecar.network.onnx_reader import read_model
    from sidecar.properties.reader import read_properties

    if arguments.without_proof and arguments.arithmetic is not None:
        raise InputError("--arithmetic says what proofs cover, and with --without-proof there are none: leave one out")
    require_writable(arguments.output)
    for path in filter(None, (arguments.report, arguments.resume)):
        require_writable(path)
    start = search_state.read(arguments.resume) if arguments.resume and arguments.resume.exists() else None
    model = read_opaque_model(arguments.model) if arguments.without_proof else read_model(arguments.model)
    files = [read_properties(path, model.signature) for path in arguments.property]
    model = with_batch_axis(model, files)
    options = CompileOptions(
        name=arguments.name,
        revision=arguments.revision,
        action=None if arguments.action is None else Action(arguments.action),
        time_limit_seconds=arguments.time_limit,
        max_regions=arguments.max_regions,
        minimum_volume=arguments.minimum_volume,
        model_versions=tuple(arguments.model_version),
        certify=not arguments.no_certificate,
        workers=_processors(),
        resumable=arguments.resume is not None,
        arithmetic=None if arguments.arithmetic is None else Arithmetic(arguments.arithmetic),
    )
    with Reporter(sys.stderr) as reporter:
        compiled = compile_bundle(model, files, options, reporter.show, start)
    write_file_atomically(arguments.output, compiled.content)
    certificate = certificate_path(arguments.output)
    if compiled.certificate is None:
        certificate.unlink(missing_ok=True)  # one that is there is another bundle's
    else:
        write_file_atomically(certificate, compiled.certificate)
    sampled = sample(model, compiled.bundle.gates, arguments.samples)
    if arguments.report is not None:
        write_file_atomically(arguments.report, page(compiled, sampled).encode())
    print(summary(compiled, sampled, arguments.model, arguments.output))
    if compiled.interrupted is not None:
        write_file_atomically(arguments.resume, search_state.encode(compiled.interrupted))
        print(f"{arguments.resume}: the time limit stopped the proofs; the same command goes on where they are")
    elif arguments.resume is not None:
        arguments.resume.unlink(missing_ok=True)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import require_writable, write_file_atomically
    from sidecar.bundle.naming import naming_in
    from sidecar.bundle.values import Arithmetic, PropertySource
    from sidecar.compiler.pipeline import with_batch_axis
    from sidecar.compiler.report import Reporter
    from sidecar.compiler.rounding import declared_arithmetic
    from sidecar.compiler.verify import verify
    from sidecar.compiler.verify_report import EXIT_STATUS, document, overall, render, result_file
    from sidecar.network.onnx_reader import read_model
    from sidecar.properties.reader import read_properties

    if arguments.counterexample is not None:
        require_writable(arguments.counterexample)
    model = read_model(arguments.model)
    files = [read_properties(path, model.signature) for path in arguments.property]
    model = with_batch_axis(model, files)
    properties = [stated for file in files for stated in file.properties]
    declared = None if arguments.arithmetic is None else Arithmetic(arguments.arithmetic)
    arithmetic = declared_arithmetic(model.signature, declared)
    with Reporter(sys.stderr) as reporter:
        verified = verify(model, properties, arithmetic, arguments.time_limit, arguments.workers, reporter.show)
    if arguments.counterexample is not None:
        write_file_atomically(arguments.counterexample, result_file(verified).encode())
    if arguments.json:
        print(json.dumps(document(verified, model.signature, arithmetic), indent=2))
    else:
        sources = [PropertySource(file.origin, file.source) for file in files]
        print(render(verified, naming_in(sources, model.signature), arithmetic))
    return EXIT_STATUS[overall(verified)]


def _check(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import read_bundle
    from sidecar.certificate.check import check
    from sidecar.certificate.codec import certificate_path, read
    from sidecar.certificate.report import Reporter, document, render

    content, _ = read_bundle(arguments.bundle)
    certificate = read(arguments.certificate or certificate_path(arguments.bundle))
    with Reporter(sys.stderr) as reporter:
        report = check(content, certificate, arguments.model, arguments.workers or _processors(), reporter.show)
    print(json.dumps(document(report), indent=2) if arguments.json else render(report, arguments.bundle))
    return 0


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _inspect(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.acceptance import claimed_signature
    from sidecar.bundle.files import read_bundle
    from sidecar.bundle.summary import describe, render
    from sidecar.certificate.codec import certificate_path

    content, bundle = read_bundle(arguments.bundle)
    signed = claimed_signature(content)
    path = certificate_path(arguments.bundle)
    certificate = str(path) if path.is_file() else None
    lines, documents = _sampled(bundle, arguments.model, arguments.samples)
    if arguments.json:
        print(json.dumps({**describe(bundle, signed), "certificate": certificate, "sampled": documents}, indent=2))
    else:
        print("\n".join([render(bundle, signed), *lines]))
        print(f"certificate: {certificate or 'none beside it, so that `sidecar check` cannot prove any of this again'}")
    return 0


def _sampled(bundle: "Bundle", model: Path | None, samples: int) -> tuple[list[str], list[dict[str, object]]]:
    """What a model does at random points, in lines and as JSON values; nothing where no model is given."""
    if model is None:
        return [], []
    from sidecar.compiler.sampling import documents, lines, sample_model

    sampled = sample_model(bundle, model, samples)
    property_ids = [gate.property_id for gate in bundle.gates]
    return ["", *lines(property_ids, sampled)], documents(property_ids, sampled)


def _try(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import read_bundle
    from sidecar.compiler.explain import explain

    _, bundle = read_bundle(arguments.bundle)
    print(explain(bundle, arguments.input, arguments.model, arguments.answer))
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.acceptance import claimed_signature
    from sidecar.bundle.difference import compare, document, render
    from sidecar.bundle.files import read_bundle

    (old, before), (new, after) = read_bundle(arguments.before), read_bundle(arguments.after)
    changes = compare(before, after, (claimed_signature(old), claimed_signature(new)))
    print(json.dumps(document(before, after, changes), indent=2) if arguments.json else render(changes))
    return 1 if changes else 0


def _keygen(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.keys import create_key_files

    public_path, name = create_key_files(arguments.output)
    print(f"{arguments.output}: private key, keep it secret\n{public_path}: public key {name}")
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.acceptance import sealed_part
    from sidecar.bundle.expiry import moment_text
    from sidecar.bundle.files import read_bundle, write_file_atomically
    from sidecar.bundle.keys import read_private_key_file
    from sidecar.bundle.signature import fingerprint, sign

    end = None if arguments.expires is None else _signature_end(arguments.expires)
    key = read_private_key_file(arguments.key)
    content, bundle = read_bundle(arguments.bundle)
    signed = sign(sealed_part(content), key, end)
    target = arguments.output or arguments.bundle
    write_file_atomically(target, signed)
    until = "" if end is None else f", until {moment_text(end)}"
    name = fingerprint(key.public_key())
    print(f"{target}: revision {bundle.manifest.revision} for {bundle.manifest.name!r}, key {name}{until}")
    return 0


def _signature_end(text: str) -> datetime.datetime:
    from sidecar.bundle.expiry import signature_end

    try:
        return signature_end(text, datetime.datetime.now(datetime.UTC))
    except Complaint as complaint:
        raise InputError(f"--expires: {complaint}") from None


def _push(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import read_bundle
    from sidecar.remote.artefact import push
    from sidecar.remote.credentials import login_for
    from sidecar.remote.registry import Repository
    from sidecar.remote.web import Deadline, RemoteError

    reference, credentials = arguments.reference, arguments.credentials
    content, _ = read_bundle(arguments.bundle)
    repository = Repository(reference, lambda: credentials and login_for(reference.registry, credentials))
    try:
        digest = push(repository, content, Deadline(arguments.timeout))
    except RemoteError as error:
        raise OperationError(f"pushing to {reference.unpinned} failed: {error}") from error
    print(f"{reference.unpinned}@{digest}")
    return 0


def _reference(text: str) -> "Reference":
    from sidecar.remote.reference import parse_reference

    try:
        reference = parse_reference(text)
    except ValueError as error:
        raise Complaint(str(error)) from None
    if reference.digest is not None:
        raise Complaint("a digest says what is there already; give a repository, with a tag if it is to have one")
    return reference


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


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _add_samples(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--samples",
        type=_count,
        default=100_000,
        metavar="N",
        help="random points per property at which to see whether the model violates it (default 100000; 0: none)",
    )


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
