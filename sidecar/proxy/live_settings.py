"""The settings file of a running sidecar, read again when it changes.

A file that cannot be used changes nothing; one that changes what needs a restart changes the rest. Either way it is
reported until it is mended.
"""

import dataclasses
import datetime
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.config import ServeSettings
from sidecar.errors import InputError, Reason
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.watched_file import WatchedFile
from sidecar.settings.file import MAX_FILE_BYTES
from sidecar.settings.live import Followed, follow

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(frozen=True)
class SettingsFile:
    """Where the settings come from.

    Args:
        path: the file.
        read: the settings that a content of it means, under the environment and the flags of the start; raises
            InputError.
    """

    path: Path
    read: Callable[[bytes], ServeSettings]


@dataclasses.dataclass(frozen=True)
class SettingsState:
    """How the settings in force stand to the file, at one moment.

    Args:
        path: the file.
        changed_at: when it last changed what is in force; None for not since the start.
        reason, message: why it is not, or not all of it, in force; None and empty where it is.
    """

    path: Path
    changed_at: datetime.datetime | None = None
    reason: Reason | None = None
    message: str = ""


class LiveSettings:
    """Follows a file. All methods but ``state`` belong to one thread at a time.

    Args:
        file: to follow.
        in_force: the settings of the start.
        metrics: to count in.
    """

    def __init__(self, file: SettingsFile, in_force: ServeSettings, metrics: Metrics) -> None:
        self._file = file
        self._watched = WatchedFile(file.path, MAX_FILE_BYTES)
        self._digest = b""
        self._in_force = in_force
        self._metrics = metrics
        self.state = SettingsState(file.path)

    def look(self, again: bool = False) -> ServeSettings | None:
        """The settings to be in force from now on; None where they are the same as before.

        Args:
            again: read the file although it seems unchanged.
        """
        if again:
            self._watched.forget()
        try:
            content = self._watched.read()
            digest = self._digest if content is None else hashlib.sha256(content).digest()
            if content is None or (digest == self._digest and self.state.reason is not Reason.SETTINGS_UNREADABLE):
                return None
            self._digest = digest
            return self._follow(follow(self._in_force, self._file.read(content)))
        except OSError as error:
            self._fail(Reason.SETTINGS_UNREADABLE, f"cannot read it: {error.strerror}; put the file there again")
        except (InputError, ValueError) as error:
            self._fail(Reason.SETTINGS_INVALID, str(error))
        except Exception as error:  # a defect of ours must not keep us from the bundles
            _LOGGER.exception("reading the settings again failed")
            self._fail(Reason.INTERNAL, f"reading it failed: {error!r}; the log has the trace")
        return None

    def _follow(self, found: Followed) -> ServeSettings | None:
        if found.pending:
            words = f"these settings differ from what is in force and need a restart: {', '.join(found.pending)}"
            self._fail(Reason.SETTINGS_NEED_RESTART, words)
        else:
            self._set(None, "")
        if not found.changed:
            return None
        self._in_force = found.settings
        self.state = dataclasses.replace(self.state, changed_at=datetime.datetime.now(datetime.UTC))
        self._metrics.in_force.settings_changed()
        _LOGGER.info("settings %s: in force from now on: %s", self._file.path, ", ".join(found.changed))
        return found.settings

    def _fail(self, reason: Reason, message: str) -> None:
        if (reason, message) != (self.state.reason, self.state.message):
            self._metrics.in_force.settings_failed(reason)
            _LOGGER.warning("settings %s: %s: %s", self._file.path, reason, message)
        self._set(reason, message)

    def _set(self, reason: Reason | None, message: str) -> None:
        if reason is None and self.state.reason is not None:
            _LOGGER.info("settings %s: what was reported is over", self._file.path)
        self._metrics.in_force.settings_failing(reason is not None)
        self.state = dataclasses.replace(self.state, reason=reason, message=message)
