"""TLS of the native transport: it is given what the files hold, and again whenever that has changed."""

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.config import ServeSettings
from sidecar.errors import InputError
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.tls import Credentials, Material, default_authorities
from sidecar.proxy.unix_sockets import SCHEME

if TYPE_CHECKING:
    from sidecar.proxy.native_module import Transport

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(frozen=True)
class NativeCredentials:
    """TLS for both sides; None for plaintext.

    Args:
        listen: looked at here, again and again.
        upstream: somebody else looks at these.
    """

    listen: Credentials | None = None
    upstream: Credentials | None = None


class NativeTls:
    """Hands TLS files over.

    Raises:
        InputError: the native transport cannot use them.
    """

    def __init__(
        self, transport: "Transport", settings: ServeSettings, credentials: NativeCredentials, metrics: Metrics
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._metrics = metrics
        self._server_name = _server_name(settings)
        self._hand_over("listen", credentials.listen, self._give_listen)
        self._hand_over("upstream", credentials.upstream, self._give_upstream)

    def look(self) -> None:
        """Look at the files that nobody else looks at."""
        if self._credentials.listen is not None:
            self._credentials.listen.refresh()

    def _hand_over(self, side: str, credentials: Credentials | None, give: Callable[[Material], None]) -> None:
        if credentials is None:
            return
        try:
            give(credentials.current)
        except ValueError as error:
            raise InputError(
                f"the native transport cannot use the TLS files for {side}: {error}; name others, or take transport "
                "portable"
            ) from error

        def give_again(material: Material) -> None:
            try:
                give(material)
            except ValueError as error:
                self._metrics.certificate_failed(side)
                _LOGGER.warning("the native transport cannot use new TLS files for %s: %s", side, error)

        credentials.tell(give_again)

    def _give_listen(self, material: Material) -> None:
        key, certificate = material.pair or (b"", b"")
        self._transport.listen_tls(certificate, key, material.authorities)

    def _give_upstream(self, material: Material) -> None:
        key, certificate = material.pair or (None, None)
        authorities = material.authorities or default_authorities()
        self._transport.upstream_tls(authorities, self._server_name, certificate, key)


def _server_name(settings: ServeSettings) -> str:
    """Whom the upstream's certificate must be for."""
    if settings.upstream_tls is not None and settings.upstream_tls.server_name is not None:
        return settings.upstream_tls.server_name
    if settings.upstream.startswith(SCHEME):
        return "localhost"
    return settings.upstream.rpartition(":")[0].strip("[]")
