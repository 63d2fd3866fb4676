"""The end of a signature as people write it."""

import datetime

import pytest

from sidecar.bundle.expiry import moment_text, signature_end
from sidecar.properties.source import Complaint

NOW = datetime.datetime(2026, 3, 1, 12, 30, 15, 999999, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("12h", "2026-03-02 00:30:15 UTC"),
        ("90d", "2026-05-30 12:30:15 UTC"),
        ("52w", "2027-02-28 12:30:15 UTC"),
        ("2027-01-01", "2027-01-01 00:00:00 UTC"),
        ("2027-01-01T18:00Z", "2027-01-01 18:00:00 UTC"),
        ("2027-01-01T18:00:05+02:00", "2027-01-01 16:00:05 UTC"),
    ],
)
def test_moments_and_times_from_now(text: str, end: str):
    found = signature_end(text, NOW)
    assert (moment_text(found), found.microsecond, found.tzinfo) == (end, 0, datetime.UTC)


@pytest.mark.parametrize(
    "text",
    ["", "90", "d", "-90d", "1.5d", "90m", "99999w", "soon", "2027-13-01", "2027-01-01T18:00", "2027-1-1", "20270101"],
)
def test_anything_else_is_told_with_what_can_be_written(text: str):
    if text == "99999w":  # some 1,900 years: beyond what dates can name only from far away
        assert signature_end(text, NOW).year > 3900
        return
    with pytest.raises(Complaint, match="is no moment; write a time from now"):
        signature_end(text, NOW)


@pytest.mark.parametrize("text", ["0d", "2026-03-01", "2026-03-01T12:30:15Z", "1999-01-01"])
def test_what_is_over_already_is_refused(text: str):
    with pytest.raises(Complaint, match="is over already"):
        signature_end(text, NOW)


def test_what_dates_cannot_name_is_no_moment():
    with pytest.raises(Complaint, match="is no moment"):
        signature_end("99999w", NOW.replace(year=9000))
