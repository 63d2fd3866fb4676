"""A bundle that is there: checked, shown, tried on a row, compared."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.cli.arguments import Commands, add_samples, add_workers, command, processors

if TYPE_CHECKING:
    from sidecar.bundle.values import Bundle


def add(commands: Commands) -> None:
    """Add them, in the order in which help lists them."""
    check = command(commands, "check", "prove again, by code of its own, all that a bundle says", _check)
    check.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    check.add_argument("--model", type=Path, required=True, metavar="M.onnx", help="the model that it is about")
    check.add_argument(
        "--certificate", type=Path, metavar="B.gates.cert", help="the bundle's certificate (default: beside the bundle)"
    )
    add_workers(check, "processes")
    check.add_argument("--json", action="store_true", help="for programs")

    inspect = command(commands, "inspect", "what is in a bundle: properties, domains, what is proved", _inspect)
    inspect.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    inspect.add_argument("--json", action="store_true", help="for programs; numbers exact, in wire units")
    inspect.add_argument(
        "--model", type=Path, metavar="M.onnx", help="the model, to see at random points what it violates"
    )
    add_samples(inspect)

    try_ = command(commands, "try", "explain one row: which properties apply, what the client gets, why", _try)
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

    diff = command(commands, "diff", "what changed between two bundles; exit status 1 where something did", _diff)
    diff.add_argument("before", type=Path, metavar="A.gates", help="the older bundle")
    diff.add_argument("after", type=Path, metavar="B.gates", help="the newer one")
    diff.add_argument("--json", action="store_true", help="for programs; numbers exact, in wire units")


def _check(arguments: argparse.Namespace) -> int:
    from sidecar.bundle.files import read_bundle
    from sidecar.certificate.check import check
    from sidecar.certificate.codec import certificate_path, read
    from sidecar.certificate.report import Reporter, document, render

    content, _ = read_bundle(arguments.bundle)
    certificate = read(arguments.certificate or certificate_path(arguments.bundle))
    with Reporter(sys.stderr) as reporter:
        report = check(content, certificate, arguments.model, arguments.workers or processors(), reporter.show)
    print(json.dumps(document(report), indent=2) if arguments.json else render(report, arguments.bundle))
    return 0


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
