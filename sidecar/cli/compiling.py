"""Journey one: a model and its properties become a bundle, or a verdict."""

import argparse
import json
import sys
from pathlib import Path

from sidecar.cli.arguments import (
    Commands,
    add_arithmetic,
    add_model_and_properties,
    add_samples,
    add_time_limit,
    add_workers,
    command,
    counts,
    declared,
    positive,
    processors,
    share,
)
from sidecar.errors import InputError
from sidecar.settings import kinds
from sidecar.settings.flags import argument


def add(commands: Commands) -> None:
    """Add them, in the order in which help lists them."""
    compile_ = command(commands, "compile", "verify a model against properties, write a gate bundle", _compile)
    add_model_and_properties(compile_)
    compile_.add_argument("--output", type=Path, required=True, metavar="B.gates", help="the bundle to write")
    compile_.add_argument(
        "--name", help="the name under which the model is served (default: the property file's, else the model file's)"
    )
    compile_.add_argument(
        "--revision", type=positive, default=1, metavar="N", help="of the bundle, for logs and metrics (default 1)"
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
    add_time_limit(
        compile_, "for all proofs together, e.g. 500ms, 60s, 5m (default 60s); what is not proved by then stays open"
    )
    compile_.add_argument(
        "--max-regions",
        type=counts,
        metavar="N[,N...]",
        help="boxes examined per search; with the numbers that inspect shows, the same bundle comes out again",
    )
    compile_.add_argument(
        "--minimum-volume",
        type=share,
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
    add_arithmetic(compile_)
    add_samples(compile_)
    compile_.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on from this file, if it is there; where the time limit stops the proofs, write there how to go on",
    )
    compile_.add_argument(
        "--report", type=Path, metavar="R.html", help="write down what was found for people, as one HTML page"
    )

    verify = command(commands, "verify", "does a model keep properties? a proof, or a counterexample", _verify)
    add_model_and_properties(verify)
    add_time_limit(verify, "for all properties together, e.g. 500ms, 60s, 5m (default 60s)")
    add_arithmetic(verify)
    add_workers(verify, "threads")
    verify.add_argument(
        "--counterexample",
        type=Path,
        metavar="FILE",
        help="write VNN-COMP's result file: sat (violated), unsat (holds), unknown or timeout; after sat, where",
    )
    verify.add_argument("--json", action="store_true", help="for programs; values on the wire")


def _compile(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import require_writable, write_file_atomically
    from sidecar.certificate.codec import certificate_path
    from sidecar.compiler import search_state
    from sidecar.compiler.opaque import read_opaque_model
    from sidecar.compiler.options import CompileOptions
    from sidecar.compiler.pipeline import compile_bundle
    from sidecar.compiler.report import Reporter, summary
    from sidecar.compiler.report_page import page
    from sidecar.compiler.sampling import sample
    from sidecar.compiler.stated import with_batch_axis
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
        workers=processors(),
        resumable=arguments.resume is not None,
        arithmetic=declared(arguments),
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
    from sidecar.bundle.values import PropertySource
    from sidecar.compiler.report import Reporter
    from sidecar.compiler.rounding import declared_arithmetic
    from sidecar.compiler.stated import with_batch_axis
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
    arithmetic = declared_arithmetic(model.signature, declared(arguments))
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
