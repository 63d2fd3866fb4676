"""A gate bundle as an artefact in a registry: a manifest with one layer, which is the bundle's file.

Nothing that a registry says is believed: the manifest has the digest that was asked for, and the layer the size and
digest that the manifest says. Source: OCI Image Format Specification 1.1, "Image Manifest" (artefacts).
"""

import base64
import dataclasses
import hashlib
import json
import urllib.parse
from http import HTTPStatus
from typing import Final

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.errors import Reason
from sidecar.remote.reference import SHA256
from sidecar.remote.registry import Repository, json_object, resolved
from sidecar.remote.web import Ask, Deadline, RemoteError

BUNDLE_TYPE: Final = "application/vnd.gate-sidecar.bundle.v1"
"""Of the layer and of the artefact."""

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"

MAX_MANIFEST_BYTES: Final = 1 << 16
"""One with a single layer has less than a kilobyte; annotations are allowed."""

_EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_ANSWER_BYTES: Final = 1 << 16


@dataclasses.dataclass(frozen=True)
class Layer:
    """Where the bundle is, and what it must be."""

    digest: str
    size: int


def find_layer(repository: Repository, deadline: Deadline) -> Layer:
    """The layer of the artefact that the repository's reference names.

    Raises:
        RemoteError: there is none, its manifest is not the one that was asked for, or is none of a gate bundle.
    """
    reference = repository.reference
    named = reference.digest or reference.tag
    ask = Ask(f"{reference.base}/manifests/{named}", headers={"Accept": MANIFEST_TYPE})
    body = repository.ask(ask, deadline, MAX_MANIFEST_BYTES, (HTTPStatus.OK,)).body
    if reference.digest is not None and len(body) <= MAX_MANIFEST_BYTES:
        _check_digest("the manifest", body, reference.digest)
    return _layer(json_object(body, MAX_MANIFEST_BYTES, "the manifest"))


def fetch_layer(repository: Repository, layer: Layer, deadline: Deadline) -> bytes:
    """The bundle's file. Raises RemoteError: there is none, or it is another one."""
    content = repository.fetch(f"/blobs/{layer.digest}", deadline, layer.size)
    if len(content) != layer.size:
        raise RemoteError(
            f"the layer has {'more than ' if len(content) > layer.size else ''}{min(len(content), layer.size)} bytes, "
            f"its manifest says {layer.size}; push the bundle again",
            Reason.BUNDLE_DIGEST,
        )
    _check_digest("the layer", content, layer.digest)
    return content


def push(repository: Repository, content: bytes, deadline: Deadline) -> str:
    """Put a bundle's file into the repository, under the reference's tag where it has one.

    Returns:
        The digest by which it can be pulled.

    Raises:
        RemoteError: the registry does not take it.
    """
    for blob in (_EMPTY, content):
        _push_blob(repository, blob, deadline)
    manifest = _manifest(content)
    digest = _digest(manifest)
    url = f"{repository.reference.base}/manifests/{repository.reference.tag or digest}"
    ask = Ask(url, "PUT", {"Content-Type": MANIFEST_TYPE}, manifest)
    repository.ask(ask, deadline, _ANSWER_BYTES, (HTTPStatus.CREATED,))
    return digest


def _push_blob(repository: Repository, blob: bytes, deadline: Deadline) -> None:
    base, digest = repository.reference.base, _digest(blob)
    there = repository.ask(
        Ask(f"{base}/blobs/{digest}", "HEAD"), deadline, _ANSWER_BYTES, (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
    )
    if there.status == HTTPStatus.OK:
        return
    begun = repository.ask(
        Ask(f"{base}/blobs/uploads/", "POST", body=b""), deadline, _ANSWER_BYTES, (HTTPStatus.ACCEPTED,)
    )
    place = resolved(f"{base}/blobs/uploads/", begun.headers.get("location", ""), "the place to send the bundle to")
    if urllib.parse.urlsplit(place)[:2] != urllib.parse.urlsplit(base)[:2]:
        raise RemoteError("the registry wants the bundle to be sent to another host, which is not done")
    url = f"{place}{'&' if '?' in place else '?'}{urllib.parse.urlencode({'digest': digest})}"
    ask = Ask(url, "PUT", {"Content-Type": "application/octet-stream"}, blob)
    repository.ask(ask, deadline, _ANSWER_BYTES, (HTTPStatus.CREATED,))


def _manifest(content: bytes) -> bytes:
    """The same bytes for the same bundle."""
    layer = _descriptor(content, BUNDLE_TYPE) | {"annotations": {"org.opencontainers.image.title": "bundle.gates"}}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": BUNDLE_TYPE,
        "config": _descriptor(_EMPTY, _EMPTY_TYPE) | {"data": base64.b64encode(_EMPTY).decode()},
        "layers": [layer],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _layer(manifest: dict[str, object]) -> Layer:
    if manifest.get("schemaVersion") != 2 or manifest.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
        raise RemoteError(f"the manifest is none of the kind {MANIFEST_TYPE}; push the bundle with `sidecar push`")
    layers = manifest.get("layers")
    only = layers[0] if isinstance(layers, list) and len(layers) == 1 else None
    if not isinstance(only, dict) or only.get("mediaType") != BUNDLE_TYPE:
        raise RemoteError(
            f"the artefact is no gate bundle: expected one layer of the type {BUNDLE_TYPE}; push it with `sidecar push`"
        )
    digest, size = only.get("digest"), only.get("size")
    if not isinstance(digest, str) or SHA256.fullmatch(digest) is None:
        raise RemoteError("the layer's digest is none: expected sha256: and 64 hex digits")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RemoteError("the layer's size is none: expected a number of bytes")
    if size > MAX_BUNDLE_BYTES:
        raise RemoteError(f"the layer has {size} bytes, a bundle at most {MAX_BUNDLE_BYTES}", Reason.BUNDLE_TOO_LARGE)
    return Layer(digest, size)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _check_digest(what: str, content: bytes, expected: str) -> None:
    found = _digest(content)
    if found != expected:
        raise RemoteError(f"{what} has the digest {found}, expected {expected}", Reason.BUNDLE_DIGEST)
