"""A bundle on its way to where it is served: signed, and put into a registry."""

import argparse
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.cli.arguments import Commands, command
from sidecar.errors import InputError, OperationError
from sidecar.properties.source import Complaint
from sidecar.settings import kinds
from sidecar.settings.flags import argument

if TYPE_CHECKING:
    from sidecar.remote.reference import Reference


def add(commands: Commands) -> None:
    """Add them, in the order in which help lists them."""
    keygen = command(commands, "keygen", "make a key pair to sign bundles with", _keygen)
    keygen.add_argument(
        "--output", type=Path, required=True, metavar="KEY", help="the private key; KEY.pub is the public one"
    )

    sign = command(commands, "sign", "sign a bundle, so that serve --trust accepts it", _sign)
    sign.add_argument("bundle", type=Path, metavar="B.gates", help="what compile wrote")
    sign.add_argument("--key", type=Path, required=True, metavar="KEY", help="the private key that keygen wrote")
    sign.add_argument(
        "--expires",
        metavar="WHEN",
        help="until when serve activates it: 90d from now, or 2027-01-01 (default: for ever); it guards on after that",
    )
    sign.add_argument("--output", type=Path, metavar="S.gates", help="the signed bundle (default: B.gates itself)")

    push = command(commands, "push", "put a bundle into a registry, for serve to pull by its digest", _push)
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
