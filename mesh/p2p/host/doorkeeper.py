"""Who connects to us is counted before a byte is read, and each connection has a life of its own.

py-libp2p keeps the task and the slot of every inbound connection for good. Here what served a connection ends with it.
"""

from collections.abc import Awaitable, Callable

import trio

from mesh.p2p.host.admission import Admission, Refusal
from mesh.p2p.host.wires import Wire


class Doorkeeper:
    """Lets connections in as `Admission` allows, and keeps each in a scope that ends with the connection."""

    def __init__(
        self,
        admission: Admission,
        *,
        handshake_s: float,
        outbound: Callable[[], int],
        on_refused: Callable[[str, Refusal], None],
        on_unsettled: Callable[[Wire], None],
    ) -> None:
        self._admission = admission
        self._handshake_s = handshake_s
        self._outbound = outbound
        self._on_refused = on_refused
        self._on_unsettled = on_unsettled
        self._in_handshake: set[Wire] = set()

    def admits(self, wire: Wire) -> bool:
        """Whether somebody may come in; `keep` must follow. Who may not is reported, and the wire ended."""
        refusal = self._admission.arrive(wire.host, trio.current_time(), outbound=self._outbound())
        if refusal is not None:
            wire.abort(refusal.rule)
            self.refuse(refusal, wire.address)
            return False
        self._in_handshake.add(wire)
        return True

    def refuse(self, refusal: Refusal, address: str = "") -> None:
        """Report that somebody was turned away."""
        self._on_refused(address, refusal)

    async def keep(self, wire: Wire, serve: Callable[[], Awaitable[None]]) -> None:
        """Do the handshake of an admitted connection and ``serve`` it, until it ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with, wire, nursery.cancel_scope)
                nursery.start_soon(self._hurry, wire)
                try:
                    await serve()
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    wire.failure = wire.failure or error
                wire.abort("the handshake failed")
        finally:
            wire.abort("closed by us")
            self.settle(wire)
            self._admission.leave(wire.host)

    async def _hurry(self, wire: Wire) -> None:
        """One deadline for all of it: TLS, WebSocket, the network key, and what libp2p does itself."""
        await trio.sleep_until(wire.opened_at + self._handshake_s)
        if not wire.settled:
            wire.failure = trio.TooSlowError()
            wire.abort("did not prove who it is in time")

    async def _end_with(self, wire: Wire, scope: trio.CancelScope) -> None:
        await wire.closed.wait()
        scope.cancel()

    def settle(self, wire: Wire) -> None:
        """The handshake is over: well if the wire says so, else it is reported. Later calls do nothing."""
        if wire in self._in_handshake:
            self._in_handshake.remove(wire)
            self._admission.settled(wire.host)
            if not wire.settled:
                self._on_unsettled(wire)
