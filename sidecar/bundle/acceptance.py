"""Accepting a bundle from outside: a numbered list of steps, each with a reason of its own.

A bundle that passes can be prepared, evaluated and labelled without further checks. What is not checked
here: that our code decides as the compiler's did (:mod:`sidecar.bundle.self_test`), that the upstream
serves the verified model (the probe), that the coverage map is true (the certificate), and that the signature has
not ended (:mod:`sidecar.proxy.succession`).
"""

import hashlib
from typing import Final

from sidecar.bundle import array_codecs, container, gate_codec, manifest_codec, rules
from sidecar.bundle.container import Section
from sidecar.bundle.signature import SignedBy, Trust, check_signature, signed_by
from sidecar.bundle.values import Bundle
from sidecar.errors import BundleError, Reason

_ANYBODY: Final = Trust()
"""Nobody's signature is asked for; one that is there would have to verify, and no key is known."""


def digest(content: bytes) -> str:
    """The bundle's identity in status, logs and audit records: SHA-256 of the file as it was sealed, lower-case hex.

    A signature does not change it. ``content`` has passed acceptance.
    """
    return hashlib.sha256(sealed_part(content)).hexdigest()


def accept(content: bytes, trust: Trust = _ANYBODY) -> Bundle:
    """The bundle that the bytes mean. The same bundle encoded again gives the same bytes.

    Args:
        content: the file.
        trust: whose signatures count, and whether there must be one.

    Raises:
        BundleError: a step failed; its reason is the step's, the message has got, expected and what to do.
    """
    # 1. to 5. It is a bundle as it was written,
    sealed, block = _intact(content)
    # 6. and vouched for by whom we trust.
    check_signature(sealed, block, trust)
    return _read(sealed)


def accept_unverified(content: bytes) -> Bundle:
    """The bundle, whoever signed it: for looking at and for signing, never for judging requests.

    Raises:
        BundleError: as :func:`accept`; of the signature only the kind is looked at.
    """
    sealed, block = _intact(content)
    if block:
        signed_by(block)
    return _read(sealed)


def claimed_signature(content: bytes) -> SignedBy | None:
    """The key that a bundle says it is signed with, and until when; None where it is not signed.

    ``content`` has passed acceptance; only :func:`accept` verifies what is said here.
    """
    _, block = container.split_block(content)
    return signed_by(block) if block else None


def sealed_part(content: bytes) -> bytes:
    """The bundle without its signature. ``content`` has passed acceptance."""
    return container.split_block(content)[0]


def _intact(content: bytes) -> tuple[bytes, bytes]:
    """Steps 1 to 5: the bundle as it was sealed, and its signature block."""
    # 1. It is no larger than anything that should be read.
    container.check_size(content)
    # 2. It is a gate bundle,
    container.check_magic(content)
    # 3. of a format version that this release knows,
    container.check_version(content)
    # 4. complete, with nothing appended but a signature,
    sealed, block = container.split_block(content)
    # 5. as it was written.
    container.check_digest(sealed)
    return sealed, block


def _read(sealed: bytes) -> Bundle:
    """Steps 7 to 12: what the sealed bytes mean."""
    # 7. It has exactly the sections of its version, in their order.
    payloads = dict(container.split_sections(sealed))
    # 8. The manifest names a model, its tensors and its properties.
    payload = payloads[Section.MANIFEST]
    manifest = manifest_codec.decode_manifest(payload)
    _check_canonical(payload, manifest_codec.encode_manifest(manifest), Reason.BUNDLE_MANIFEST)
    # 9. The gates are the properties' and fit the model.
    payload = payloads[Section.GATES]
    gates = gate_codec.decode_gates(payload)
    rules.check_gates(gates, manifest)
    _check_canonical(payload, gate_codec.encode_gates(gates), Reason.BUNDLE_GATES)
    # 10. Each region of each gate has a coverage tree that divides its box.
    payload = payloads[Section.COVERAGE]
    coverage = array_codecs.decode_coverage(payload, gates)
    rules.check_coverage(coverage, gates)
    _check_canonical(payload, array_codecs.encode_coverage(coverage), Reason.BUNDLE_COVERAGE)
    # 11. The self-test vectors are rows of the model, with verdicts that make sense.
    payload = payloads[Section.VECTORS]
    vectors = array_codecs.decode_vectors(payload, manifest.signature, len(gates))
    rules.check_vectors(vectors, manifest.signature)
    _check_canonical(payload, array_codecs.encode_vectors(vectors), Reason.BUNDLE_VECTORS)
    # 12. The property files are there to be read.
    payload = payloads[Section.SOURCES]
    sources = array_codecs.decode_sources(payload)
    _check_canonical(payload, array_codecs.encode_sources(sources), Reason.BUNDLE_SOURCES)
    return Bundle(manifest, gates, coverage, vectors, sources)


def _check_canonical(payload: bytes, encoded: bytes, reason: Reason) -> None:
    """A value has one encoding, so that two files with different digests never mean the same bundle."""
    if payload != encoded:
        raise BundleError(
            reason,
            f"a section of {len(payload)} bytes is not written the one way in which it may be written (the same "
            f"contents take {len(encoded)} bytes); give a bundle that `sidecar compile` wrote",
        )
