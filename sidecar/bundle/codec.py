"""A bundle as bytes: the same bundle gives the same bytes.

Writing judges nothing: who writes a bundle for others accepts its own bytes first
(:func:`sidecar.bundle.acceptance.accept`), and so applies every rule that its readers will.
"""

from sidecar.bundle.array_codecs import encode_coverage, encode_sources, encode_vectors
from sidecar.bundle.container import Section, pack
from sidecar.bundle.gate_codec import encode_gates
from sidecar.bundle.manifest_codec import encode_manifest
from sidecar.bundle.values import Bundle


def encode(bundle: Bundle) -> bytes:
    """The file's content. Raises BUNDLE_GATES for a number with too many digits."""
    return pack(
        (
            (Section.MANIFEST, encode_manifest(bundle.manifest)),
            (Section.GATES, encode_gates(bundle.gates)),
            (Section.COVERAGE, encode_coverage(bundle.coverage)),
            (Section.VECTORS, encode_vectors(bundle.vectors)),
            (Section.SOURCES, encode_sources(bundle.sources)),
        )
    )
