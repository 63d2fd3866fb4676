"""The end of a signature as people write it: a moment, or a time from now."""

import datetime
import re
from typing import Final

from sidecar.properties.source import Complaint, shown

_DURATION: Final = re.compile(r"([0-9]{1,5})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}
_MOMENT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:]{5,8}(Z|[+-][0-9]{2}:[0-9]{2}))?")

_FORMS: Final = "write a time from now (12h, 90d, 52w), a day (2027-01-01: its beginning, UTC), or 2027-01-01T18:00Z"


def signature_end(text: str, now: datetime.datetime) -> datetime.datetime:
    """The moment from which a signature does not count any more, in whole seconds, UTC.

    Raises:
        Complaint: not understood, or over already.
    """
    end = _end(text, now)
    if end <= now:
        raise Complaint(f"{shown(text)} is over already (it is {moment_text(now)}); {_FORMS}")
    return end


def _end(text: str, now: datetime.datetime) -> datetime.datetime:
    duration = _DURATION.fullmatch(text)
    try:
        if duration is not None:
            return now.replace(microsecond=0) + datetime.timedelta(**{_UNITS[duration[2]]: int(duration[1])})
        if _MOMENT.fullmatch(text) is not None:
            found = datetime.datetime.fromisoformat(text)
            return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        pass
    raise Complaint(f"{shown(text)} is no moment; {_FORMS}")


def moment_text(moment: datetime.datetime) -> str:
    """A moment for people, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
