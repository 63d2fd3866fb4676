"""A setting's value, together with where it comes from."""

import dataclasses
import enum
from typing import Any


class Level(enum.IntEnum):
    """What can give a value; a higher one stands over a lower one."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    FLAG = 3


@dataclasses.dataclass(frozen=True)
class Given:
    """A value.

    Args:
        value: as the settings' field holds it.
        level: what kind of place gave it.
        place: the place: ``file:line:column``, the variable, the flag, or ``default``.
    """

    value: Any
    level: Level
    place: str
