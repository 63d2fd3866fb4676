"""Accepting a bundle from outside: a numbered list of steps, each with a reason of its own.

A bundle that passes can be prepared, evaluated and labelled without further checks. What is not checked
here: that our code decides as the compiler's did (:mod:`sidecar.bundle.self_test`), that the upstream
serves the verified model (the probe), and that the coverage map is true (the certificate).
"""

import hashlib

from sidecar.bundle import array_codecs, container, gate_codec, manifest_codec, rules
from sidecar.bundle.container import Section
from sidecar.bundle.values import Bundle
from sidecar.errors import BundleError, Reason


def digest(content: bytes) -> str:
    """The bundle's identity in status, logs and audit records: SHA-256 of the whole file, lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def accept(content: bytes) -> Bundle:
    """The bundle that the bytes mean. The same bundle encoded again gives the same bytes.

    Raises:
        BundleError: a step failed; its reason is the step's, the message has got, expected and what to do.
    """
    # 1. It is no larger than anything that should be read.
    container.check_size(content)
    # 2. It is a gate bundle,
    container.check_magic(content)
    # 3. of a format version that this release knows,
    container.check_version(content)
    # 4. complete, with nothing appended,
    container.check_length(content)
    # 5. and as it was written.
    container.check_digest(content)
    # 6. It has exactly the sections of its version, in their order.
    payloads = dict(container.split_sections(content))
    # 7. The manifest names a model, its tensors and its properties.
    payload = payloads[Section.MANIFEST]
    manifest = manifest_codec.decode_manifest(payload)
    _check_canonical(payload, manifest_codec.encode_manifest(manifest), Reason.BUNDLE_MANIFEST)
    # 8. The gates are the properties' and fit the model.
    payload = payloads[Section.GATES]
    gates = gate_codec.decode_gates(payload)
    rules.check_gates(gates, manifest)
    _check_canonical(payload, gate_codec.encode_gates(gates), Reason.BUNDLE_GATES)
    # 9. Each region of each gate has a coverage tree that divides its box.
    payload = payloads[Section.COVERAGE]
    coverage = array_codecs.decode_coverage(payload, gates)
    rules.check_coverage(coverage, gates)
    _check_canonical(payload, array_codecs.encode_coverage(coverage), Reason.BUNDLE_COVERAGE)
    # 10. The self-test vectors are rows of the model, with verdicts that make sense.
    payload = payloads[Section.VECTORS]
    vectors = array_codecs.decode_vectors(payload, manifest.signature, len(gates))
    rules.check_vectors(vectors, manifest.signature)
    _check_canonical(payload, array_codecs.encode_vectors(vectors), Reason.BUNDLE_VECTORS)
    # 11. The property files are there to be read.
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
