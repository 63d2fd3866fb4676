"""The portable transport: grpcio's server around the handlers, which runs wherever Python does."""

import grpc
import grpc.aio

from sidecar.config import ServeSettings
from sidecar.proxy.active_bundle import ActiveModels
from sidecar.proxy.server import bind_server
from sidecar.proxy.tls import Credentials, server_credentials
from sidecar.proxy.transport import Handlers, TransportKind


class PortableTransport:
    """See :class:`~sidecar.proxy.transport.Transport`.

    Raises:
        OperationError: the address cannot be bound.
    """

    kind = TransportKind.PORTABLE
    version = grpc.__version__
    room = None

    def __init__(self, settings: ServeSettings, credentials: Credentials | None) -> None:
        self._server, self.port = bind_server(
            settings.listen,
            settings.limit_bytes,
            settings.keepalive_seconds,
            None if credentials is None else server_credentials(credentials),
        )

    def judge_by(self, _: ActiveModels) -> None:
        """Everything is judged in Python, where the registry has them."""

    async def start(self, handlers: Handlers) -> None:
        """See :class:`~sidecar.proxy.transport.Transport`."""
        self._server.add_generic_rpc_handlers(handlers.generic)
        await self._server.start()

    async def ended(self) -> object:
        """See :class:`~sidecar.proxy.transport.Transport`."""
        return await self._server.wait_for_termination()

    async def stop(self, seconds: float) -> None:
        """See :class:`~sidecar.proxy.transport.Transport`."""
        await self._server.stop(seconds)
