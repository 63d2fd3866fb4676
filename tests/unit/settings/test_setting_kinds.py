"""How values of settings are written: units always, one meaning, and what is shown reads as the same again."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import BundleSource, HttpSource, OciSource
from sidecar.properties.source import Complaint
from sidecar.settings import kinds

LARGEST = 2**31 - 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("500ms", 0.5), ("30s", 30), ("1.5s", 1.5), ("2m", 120), ("2min", 120), ("1h", 3600), ("0s", 0), ("168h", 604800)],
)
def test_a_duration_is_a_number_with_a_unit(text: str, value: float) -> None:
    assert kinds.seconds(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "30", "s", "-1s", "+1s", "1 s", "1d", "1S", "1e3s", ".5s", "5.s", "inf", "nan s", "169h", "9" * 30 + "s"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Complaint):
        kinds.seconds(text)


def test_no_time_at_all_is_not_always_a_duration() -> None:
    assert kinds.seconds("0ms") == 0
    with pytest.raises(Complaint, match="no time at all"):
        kinds.positive_seconds("0ms")
    assert kinds.positive_seconds("1ms") == 0.001


@pytest.mark.parametrize(
    ("text", "value"),
    [("1B", 1), ("512KiB", 1 << 19), ("64MiB", 1 << 26), ("1GiB", 1 << 30), ("2147483647B", 2**31 - 1)],
)
def test_a_size_is_a_whole_number_with_a_unit(text: str, value: int) -> None:
    assert kinds.size(text) == value


@pytest.mark.parametrize("text", ["", "64", "64MB", "64M", "1.5MiB", "-1B", "0B", "2GiB", "64 MiB", "64mib"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Complaint):
        kinds.size(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "1e3", "2147483648", "\u0661", "x"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(Complaint):
        kinds.count(text)


@pytest.mark.parametrize("text", ["h:1", "127.0.0.1:0", "[::1]:9001", "triton.models.svc:65535"])
def test_an_address_is_host_and_port(text: str) -> None:
    assert kinds.address(text) == text


@pytest.mark.parametrize("text", ["", "h", ":1", "h:", "h:65536", "h:x", "http://h:1", "::1:1", "a b:1", "h:1\n"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Complaint, match="HOST:PORT"):
        kinds.address(text)


@pytest.mark.parametrize("text", ["", "True", "yes", "on", "1"])
def test_only_true_and_false_are_booleans(text: str) -> None:
    with pytest.raises(Complaint):
        kinds.boolean(text)


def test_a_bundle_is_a_path_with_a_name_or_without() -> None:
    assert kinds.bundle("a/b.gates") == BundleSource(Path("a/b.gates"))
    assert kinds.bundle("m=a=b.gates") == BundleSource(Path("a=b.gates"), "m")
    assert kinds.bundle("m=http://host/b.gates?v=1") == HttpSource("http://host/b.gates?v=1", "m")
    assert kinds.bundle("https://host:8443/b.gates?v=1") == HttpSource("https://host:8443/b.gates?v=1")
    pinned = f"oci://host:5000/a/b@sha256:{'0' * 64}"
    assert kinds.bundle(pinned) == OciSource(pinned)
    assert kinds.bundle(f"m={pinned}") == OciSource(pinned, "m")
    for text in ("", "=b.gates", "m=", "a\0", "=http://h/b", "oci://host/a", "oci://me:pass@host/a:b", "OCI://h/a:b"):
        with pytest.raises(Complaint):
            kinds.bundle(text)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://secret/b",
        "http:///secret",
        "https://me:secret@host/b",
        "http://host:secret/b",
        "http://host:0/secret",
        "http://host:65536/secret",
        "http://[secret/b",
        "http://host/secret\n",
        " http://host/secret",
    ],
)
def test_a_url_that_bundles_are_not_fetched_from_is_refused_and_not_repeated(text: str) -> None:
    for read in (kinds.url, kinds.bundle):
        with pytest.raises(Complaint, match="starts with http://") as caught:
            read(text)
        assert "secret" not in str(caught.value)


def test_a_choice_that_is_none_is_answered_with_the_nearest() -> None:
    with pytest.raises(Complaint, match="did you mean shadow"):
        kinds.MODE.parse("shaddow")


@settings(deadline=None)
@given(st.integers(0, 7 * 24 * 3600 * 1000))
def test_a_duration_that_is_shown_reads_as_the_same(milliseconds: int) -> None:
    value = milliseconds / 1000
    assert kinds.seconds(kinds.show_seconds(value)) == value


@settings(deadline=None)
@given(st.integers(1, 2**31 - 1))
def test_a_size_that_is_shown_reads_as_the_same(value: int) -> None:
    assert kinds.size(kinds.show_size(value)) == value


@pytest.mark.parametrize(
    ("value", "text"), [(30.0, "30s"), (0.5, "500ms"), (0.0, "0s"), (5400.0, "90m"), (1e-6, "0.000001s")]
)
def test_durations_are_shown_in_whole_numbers_where_they_can(value: float, text: str) -> None:
    assert kinds.show_seconds(value) == text


@settings(deadline=None)
@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,3}(\.[0-9])?(ms|s|MiB|d)?", fullmatch=True))
@pytest.mark.parametrize("kind", [kinds.DURATION_OR_NONE, kinds.SIZE, kinds.ADDRESS])
def test_whatever_is_read_is_allowed_by_the_schema(kind: kinds.Kind, text: str) -> None:
    try:
        kind.parse(text)
    except Complaint:
        return
    assert re.search(str(kind.schema["pattern"]), text)
