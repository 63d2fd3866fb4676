"""Which settings of a running sidecar follow others that are found later, and which wait for a restart."""

import dataclasses

from sidecar.config import ServeSettings
from sidecar.settings.table import SETTINGS


@dataclasses.dataclass(frozen=True)
class Followed:
    """What to make of other settings.

    Args:
        settings: those to be in force from now on.
        changed: the names of what differs from before.
        pending: the names of what would differ after a restart.
    """

    settings: ServeSettings
    changed: tuple[str, ...]
    pending: tuple[str, ...]


def follow(in_force: ServeSettings, found: ServeSettings) -> Followed:
    """The settings in force, with the hot ones of those that were found.

    Raises:
        ValueError: the hot ones do not go together with the others in force.
    """
    differing = [each for each in SETTINGS if getattr(in_force, each.field) != getattr(found, each.field)]
    hot = {each.field: getattr(found, each.field) for each in differing if each.hot}
    return Followed(
        dataclasses.replace(in_force, **hot),
        tuple(each.name for each in differing if each.hot),
        tuple(each.name for each in differing if not each.hot),
    )
