"""TLS of the native transport: it is given what the files hold, and again whenever that has changed."""

import dataclasses
import logging
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
        self._given: dict[str, Material] = {}
        for error in self._hand_over():
            raise InputError(f"the native transport cannot use the TLS files: {error}; or set transport to portable")

    def look(self) -> None:
        """Look again; what it cannot use changes nothing."""
        if self._credentials.listen is not None:
            self._credentials.listen.refresh()
        for error in self._hand_over():
            _LOGGER.warning("the native transport cannot use new TLS files: %s; the ones before stay in use", error)

    def _hand_over(self) -> list[str]:
        errors = []
        for side, credentials, give in (
            ("listen", self._credentials.listen, self._give_listen),
            ("upstream", self._credentials.upstream, self._give_upstream),
        ):
            if credentials is None or self._given.get(side) is credentials.current:
                continue
            is_new = side in self._given
            material = self._given[side] = credentials.current
            try:
                give(material)
            except ValueError as error:
                errors.append(f"{side}: {error}")
                if is_new:
                    self._metrics.certificate_failed(side)
        return errors

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
