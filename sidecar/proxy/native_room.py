"""The one budget of calls in flight and their bytes, where the native transport keeps it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.proxy.native_module import Transport


class NativeRoom:
    """See :class:`~sidecar.proxy.load.Room`: what calls in flight hold, natively and in Python, is counted there."""

    def __init__(self, transport: "Transport") -> None:
        self._transport = transport

    @property
    def calls(self) -> int:
        """In flight."""
        return self._transport.in_flight()[0]

    @property
    def held_bytes(self) -> int:
        """Of their messages."""
        return self._transport.in_flight()[1]

    def take_call(self) -> bool:
        """One more call."""
        return self._transport.take_call()

    def give_call(self) -> None:
        """One has ended."""
        self._transport.give_call()

    def hold(self, count: int) -> bool:
        """Hold so many more bytes."""
        return self._transport.hold(count)

    def give_back(self, count: int) -> None:
        """So many are gone."""
        self._transport.give_back(count)
