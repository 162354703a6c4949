"""Yamux between two ends in one loop, over a TCP connection; and one end whose peer is written by hand."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import trio.testing
from libp2p.abc import ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from noise.connection import Keypair, NoiseConnection

from mesh.p2p.host.channels import SocketChannel
from mesh.p2p.host.ciphers import Cipher, NoiseCipher
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.tls import TlsTransport
from mesh.p2p.host.wires import ByteWire, tcp_wire
from mesh.p2p.host.yamux.connection import YamuxConnection
from mesh.p2p.host.yamux.frames import Frame, Parser, encode
from mesh.p2p.host.yamux.stream import YamuxStream

PEER = ID.from_pubkey(create_new_key_pair(bytes(32)).public_key)
WITHIN_S = 30.0


class Plain:
    """A cipher that hides nothing."""

    begun = b""
    ended = behind = False

    def seal(self, data: bytes) -> bytes:
        return data

    def open(self, data: bytes) -> bytes:
        return data

    def reply(self) -> bytes:
        return b""


def noise_pair() -> tuple[NoiseConnection, NoiseConnection]:
    """Both sides of a handshake that is over."""
    near, far = (NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256") for _ in range(2))
    for number, side in enumerate((near, far), start=1):
        side.set_keypair_from_private_bytes(Keypair.STATIC, bytes([number]) * 32)
    near.set_as_initiator()
    far.set_as_responder()
    near.start_handshake()
    far.start_handshake()
    far.read_message(near.write_message())
    near.read_message(far.write_message())
    far.read_message(near.write_message())
    return near, far


async def tls_pair() -> tuple[ISecureConn, ISecureConn]:
    """Both sides of a handshake that is over."""
    secured: dict[str, ISecureConn] = {}

    async def shake(side: str, stream: trio.StapledStream) -> None:
        wire = ByteWire(stream, ("127.0.0.1", 1), inbound=side == "far", transport="tcp", hang_up=lambda: None)
        tls = TlsTransport(create_new_key_pair(bytes([len(side)]) * 32))
        secured[side] = await tls._secure(RawConnection(wire, side == "near"), initiator=side == "near")

    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, "near", near)
        nursery.start_soon(shake, "far", far)
    return secured["near"], secured["far"]


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """A dialled and an accepted end."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        far = await listener.accept()
    try:
        yield near, far
    finally:
        near.socket.close()
        far.socket.close()


def wire_over(socket: trio.SocketStream, *, inbound: bool) -> ByteWire:
    """As the layers lay it, but for the greeting."""
    wire = tcp_wire(socket, inbound=inbound)
    wire.lay(SocketChannel(socket.socket), "tcp", "")
    return wire


@dataclass
class Pair:
    """Both ends of a connection. The near one dialled."""

    near: YamuxConnection
    far: YamuxConnection

    async def stream(self) -> tuple[YamuxStream, YamuxStream]:
        """Both ends of a new one, opened by the near end."""
        near = await self.near.open_stream()
        far = await self.far.accept_stream()
        assert isinstance(far, YamuxStream)
        return near, far


@asynccontextmanager
async def connected() -> AsyncIterator[Pair]:
    """Two of ours, with Noise between them."""
    ciphers = [NoiseCipher(noise) for noise in noise_pair()]
    async with sockets() as ends, trio.open_nursery() as nursery:
        near, far = (
            _connection(cipher, wire_over(end, inbound=not initiator), initiator=initiator)
            for cipher, end, initiator in zip(ciphers, ends, (True, False), strict=True)
        )
        nursery.start_soon(near.start)
        nursery.start_soon(far.start)
        with trio.fail_after(WITHIN_S):
            yield Pair(near, far)
        await near.close()
        await far.close()


def _connection(cipher: Cipher, wire: ByteWire, *, initiator: bool, budget: int = 1 << 28) -> YamuxConnection:
    return YamuxConnection(cipher, PEER, wire, ReceiveBudget(budget), initiator=initiator, security="/noise")


class Peer:
    """The other end, frame by frame: it does what it is told, and nothing by itself."""

    def __init__(self, socket: trio.SocketStream) -> None:
        self.socket = socket
        self._parser = Parser()
        self._frames: list[Frame] = []

    async def says(self, *frame: int, data: bytes = b"") -> None:
        """Send a frame: kind, flags, stream, value."""
        await self.socket.send_all(encode(*frame, data))  # type: ignore[arg-type]

    async def hears(self) -> Frame:
        """The next frame; one of data may be a part."""
        while not self._frames:
            data = await self.socket.receive_some(65536)
            if not data:
                raise EOFError
            self._frames += self._parser.feed(bytes(data))
        return self._frames.pop(0)

    async def until_closed(self) -> None:
        """Return when we are hung up on."""
        try:
            while await self.socket.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            return


@asynccontextmanager
async def facing(
    budget: int = 1 << 28, *, initiator: bool = False, cipher: Cipher | None = None
) -> AsyncIterator[tuple[YamuxConnection, Peer]]:
    """One of ours, by default the one that was dialled, and its peer; by default there is no cipher between them."""
    async with sockets() as (near, far), trio.open_nursery() as nursery:
        ours = _connection(cipher or Plain(), wire_over(far, inbound=True), initiator=initiator, budget=budget)
        nursery.start_soon(ours.start)
        with trio.fail_after(WITHIN_S):
            yield ours, Peer(near)
        ours.wire.abort("done")


async def until(condition: Callable[[], object]) -> None:
    """Wait for it, within the deadline of the pair."""
    while not condition():
        await trio.sleep(0.001)
