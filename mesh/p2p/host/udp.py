"""UDP sockets: what has come is taken in batches, and what cannot be sent at once is lost, as on any way."""

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import trio

_MAX_DATAGRAM_BYTES = 2048
_BATCH = 64
_BUFFER_BYTES = 1 << 21  # as far as the system allows

# As the system has it: host and port, and of IPv6 the flow and the scope.
Address: TypeAlias = tuple[Any, ...]


# Of Linux, where they are not in the socket module: what a router or the other machine says of a datagram of ours.
_RECEIVE_ERRORS = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_MAX_ANCILLARY_BYTES = 512


class Udp:
    """A socket that does not block: sending never waits, and nobody else reads.

    ``on_unreachable`` gets the address of somebody who is said not to listen any more.
    """

    on_unreachable: Callable[[Address], None] = staticmethod(lambda _: None)

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        options = [(socket.SOL_SOCKET, name, _BUFFER_BYTES) for name in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
        if sys.platform == "linux":
            options.append((*_RECEIVE_ERRORS[self._raw.family], 1))
        for option in options:
            with suppress(OSError):  # it does without
                self._raw.setsockopt(*option)

    async def receive(self) -> list[tuple[bytes, Address]]:
        """What has come, at least one datagram of it. Raises trio.ClosedResourceError once it is closed."""
        while True:
            if self._raw.fileno() < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(self._raw.fileno())
            if batch := self._batch():
                return batch

    def _batch(self) -> list[tuple[bytes, Address]]:
        batch: list[tuple[bytes, Address]] = []
        try:
            while len(batch) < _BATCH:
                data, address = self._raw.recvfrom(_MAX_DATAGRAM_BYTES)
                batch.append((data, address))
        except OSError:  # nothing more has come, or something is wrong with what was sent
            self._take_errors()
        return batch

    def _take_errors(self) -> None:
        with suppress(OSError):
            while sys.platform == "linux":
                _, _, _, address = self._raw.recvmsg(0, _MAX_ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
                self.on_unreachable(address)

    def send(self, datagram: bytes, to: Address | None = None) -> None:
        """Send to ``to``, or the address that the socket is connected to."""
        for _ in range(2):  # the first may tell of an error of another datagram
            try:
                self._raw.send(datagram) if to is None else self._raw.sendto(datagram, to)
            except BlockingIOError:
                return
            except OSError:
                continue
            return

    def send_or_raise(self, datagram: bytes, to: Address) -> None:
        """As `send`, but raises OSError where no way leads there from this socket."""
        with suppress(BlockingIOError):
            try:
                self._raw.sendto(datagram, to)
            except OSError:
                self._raw.sendto(datagram, to)

    def close(self) -> None:
        """Close it; who waits in `receive` is woken up. Again: no-op."""
        if self._raw.fileno() >= 0:
            trio.lowlevel.notify_closing(self._raw.fileno())
            self._raw.close()
