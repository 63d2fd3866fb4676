"""Ids by which a client, the audit record and the operator speak of the same decision.

A call has an id of 128 random bits; the n-th response of the call has the decision id `<call id>/<n>`.
"""

import os
from typing import Final

CALL_ID_KEY: Final = "gate-call-id"
DECISION_KEY: Final = "gate-decision"


def new_call_id() -> str:
    """128 random bits in lower-case hex."""
    return os.urandom(16).hex()


def decision_id(call_id: str, response_number: int) -> str:
    """The id of what was decided about the call's n-th response, counting from 1."""
    return f"{call_id}/{response_number}"
