"""A connection through a relay: a libp2p stream to the relay, as the wire of another connection."""

from functools import partial

import trio
from libp2p.abc import INetStream
from libp2p.network.connection.raw_connection import RawConnection

from mesh.p2p.host.muxed import lost
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.host.wires import RELAYED, ByteWire

CIRCUIT = "/p2p-circuit"


class _CircuitChannel:
    """See `mesh.p2p.host.channels.Channel`. It has no address: the other end may be anywhere."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._reading = trio.CancelScope()
        self._awake = False

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """See Channel. `wake` ends it: resetting a stream of py-libp2p does not."""
        if self._awake:
            raise trio.ClosedResourceError
        with trio.CancelScope() as self._reading:
            return await self._receive(max_bytes)
        raise trio.ClosedResourceError

    async def _receive(self, max_bytes: int | None) -> bytes:
        try:
            return bytes(await self._stream.read(max_bytes))
        except STREAM_ENDED as error:
            if lost(self._stream):
                raise trio.BrokenResourceError("the relay ended the circuit") from error
            return b""

    async def send_all(self, data: bytes, /) -> None:
        """See Channel."""
        try:
            await self._stream.write(data)
        except STREAM_ENDED as error:
            raise trio.BrokenResourceError(f"the relay ended the circuit ({error})") from error

    def wake(self) -> None:
        """Let who reads go, now and later."""
        self._awake = True
        self._reading.cancel()


class CircuitWire(ByteWire):
    """A wire whose bytes a relay passes on. They are secured end to end: the relay sees ciphertext."""

    def __init__(
        self, stream: INetStream, relay: str, relay_address: str, *, inbound: bool, nursery: trio.Nursery
    ) -> None:
        channel = _CircuitChannel(stream)

        def hang_up() -> None:
            channel.wake()
            if not self.closed.is_set():
                nursery.start_soon(partial(_let_go, stream))

        super().__init__(channel, (relay, 0), inbound=inbound, transport=RELAYED, hang_up=hang_up)
        self.relay = relay
        self.address = f"{relay_address}/p2p/{relay}{CIRCUIT}"

    def get_remote_address(self) -> None:
        """None: what we see is the relay's."""
        return


def raw_circuit(wire: CircuitWire) -> RawConnection:
    """A circuit that we asked for, ready to be secured."""
    return RawConnection(wire, True)


async def _let_go(stream: INetStream) -> None:
    try:
        await stream.reset()
    except STREAM_ENDED:
        return


def split_circuit(address: str) -> tuple[str, str]:
    """Relay and relay's address of a circuit address. Raises ValueError that says what is wrong.

    ``/ip4/192.0.2.1/tcp/4701/p2p/<relay>/p2p-circuit[/p2p/<peer>]``; one relay, not several.
    """
    before, found, after = address.partition(CIRCUIT)
    transport, named, relay = before.rpartition("/p2p/")
    if not found or not named or not relay or "/" in relay:
        raise ValueError("a circuit address names its relay before /p2p-circuit")
    if CIRCUIT in after:
        raise ValueError("a circuit address names one relay")
    return relay, transport
