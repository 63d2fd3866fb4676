"""Entries of protobuf maps that readers do not agree on.

An entry with a field besides key and value is set aside whole, as an unknown field, by the runtime here; the runtimes
of other languages read its key and value. What stands in it would be hidden from us and not from the upstream.
"""

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sidecar.errors import CallerError, Reason


def refuse_hidden_entries(message: Message, map_field: str) -> None:
    """Refuse a message that holds such an entry of the map of that name.

    Raises:
        CallerError: MALFORMED_REQUEST.
    """
    unknown = UnknownFieldSet(message)
    if not len(unknown):
        return
    number = message.DESCRIPTOR.fields_by_name[map_field].number
    if any(unknown[index].field_number == number for index in range(len(unknown))):
        raise CallerError(
            Reason.MALFORMED_REQUEST,
            f"an entry of {map_field!r} has a field besides key and value, so that some would read it and some would "
            "not: send key and value only",
        )
