"""Names of artefacts in registries."""

import pytest

from sidecar.config import BundleSource, OciSource, ServeSettings
from sidecar.remote.reference import Reference, is_reference, parse_reference

PIN = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("oci://ghcr.io/team/gates:v1", Reference("https", "ghcr.io", "team/gates", "v1", None)),
        (f"oci://host:5000/a@{PIN}", Reference("https", "host:5000", "a", None, PIN)),
        (
            f"oci+http://[::1]:5000/a.b_c__d-e/f:1.2_x@{PIN}",
            Reference("http", "[::1]:5000", "a.b_c__d-e/f", "1.2_x", PIN),
        ),
        ("oci://h/a", Reference("https", "h", "a", None, None)),
    ],
)
def test_what_they_name(text: str, reference: Reference):
    assert parse_reference(text) == reference
    assert is_reference(text)
    assert reference.unpinned + (f"@{reference.digest}" if reference.digest else "") == text
    assert reference.base == f"{reference.web_scheme}://{reference.registry}/v2/{reference.repository}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oci://",
        "oci:///a",
        "oci://host",
        "oci://host/",
        "oci://host/A",
        "oci://host/a//b",
        "oci://host/a/../b",
        "oci://host/a:",
        "oci://host/a:b:c",
        "oci://host:0/a",
        "oci://host:123456/a",
        "oci://me:pass@host/a",
        "oci://host/a@sha256:12",
        f"oci://host/a@{PIN.upper()}",
        f"oci://host/a@sha512:{'0' * 128}",
        f"oci://host/a@{PIN}\n",
        "oci://host/a?x",
        "oci://-host/a",
        "oci://host/" + "a" * 1024,
        "docker://host/a",
    ],
)
def test_what_is_none_is_refused(text: str):
    with pytest.raises(ValueError, match="oci://HOST"):
        parse_reference(text)


def test_the_next_digest_is_the_next_version_of_the_same_source():
    sources = [OciSource(f"oci://h/a:v@sha256:{digit * 64}", "m") for digit in "01"]
    assert {source.name for source in sources} == {"m=oci://h/a:v"}


def test_a_source_names_one_artefact():
    with pytest.raises(ValueError, match="add its digest"):
        OciSource("oci://h/a")


def test_a_tag_alone_is_for_signed_bundles_only(tmp_path):
    tagged, pinned = OciSource("oci://h/a:v"), OciSource(f"oci://h/b:v@{PIN}")
    for more in ({}, {"trusted_keys": (tmp_path,), "allow_unsigned": True}):
        ServeSettings((pinned,), "u:1", **more)
        with pytest.raises(ValueError, match="a tag can be moved"):
            ServeSettings((pinned, tagged), "u:1", **more)
    ServeSettings((pinned, tagged), "u:1", trusted_keys=(tmp_path,))


def test_a_source_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="more than once"):
        ServeSettings((BundleSource(tmp_path), BundleSource(tmp_path)), "u:1")
    ServeSettings((BundleSource(tmp_path), BundleSource(tmp_path, "other")), "u:1")
