"""Things that are told once: names that come from outside and must fill neither the log nor the memory."""

import logging
from typing import Final

MAX_REMEMBERED: Final = 100
"""Of each kind. Later ones are counted in the metrics like all others, and not named."""

_LOGGER: Final = logging.getLogger("sidecar.proxy")


class FirstSeen:
    """Remembers what passes unguarded, and which versions answer that no bundle names."""

    def __init__(self) -> None:
        self._unguarded: set[str] = set()
        self._unproved: set[tuple[str, str]] = set()

    def unguarded(self, model_name: str) -> None:
        """A request for a model without a bundle was passed."""
        if model_name not in self._unguarded and len(self._unguarded) < MAX_REMEMBERED:
            self._unguarded.add(model_name)
            _LOGGER.warning("model %s has no gate bundle: requests for it pass unguarded", model_name)

    def unproved(self, model_name: str, version: str) -> None:
        """A version of a guarded model answered that its bundle does not name."""
        seen = (model_name, version)
        if seen not in self._unproved and len(self._unproved) < MAX_REMEMBERED:
            self._unproved.add(seen)
            _LOGGER.warning("model %s answers in version %r, which its bundle does not name", model_name, version)

    @property
    def unguarded_models(self) -> tuple[str, ...]:
        """By name."""
        return tuple(sorted(self._unguarded))

    def unproved_versions(self, model_name: str) -> tuple[str, ...]:
        """Of one model."""
        return tuple(sorted(version for name, version in self._unproved.copy() if name == model_name))
