"""Accepting: one UDP port for all who dial, told apart by their addresses.

Until an address is proved by DTLS's cookie nothing is remembered of it: STUN requests and first hellos are answered
from what they say themselves, with fewer bytes than they had. Then it is counted, like everybody who connects.
"""

import trio
from libp2p.custom_types import THandler

from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.udp import Address, Udp
from mesh.p2p.host.webrtc import stun
from mesh.p2p.host.webrtc.connection import WebRtcConnection
from mesh.p2p.host.webrtc.dtls import Dtls, Greeter, is_hello, random_of
from mesh.p2p.host.webrtc.link import Blamed
from mesh.p2p.host.webrtc.local import Local


class Door:
    """One port, and those who came through it."""

    def __init__(self, udp: Udp, keeper: Doorkeeper, local: Local) -> None:
        self._udp = udp
        self._udp.on_unreachable = self._unreachable
        self._keeper = keeper
        self._local = local
        self._greeter = Greeter(local.certificate)
        self._inside: dict[Address, WebRtcConnection] = {}

    async def serve(self, handler: THandler) -> None:
        """Accept until the socket is closed."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    batch = await self._udp.receive()
                except trio.ClosedResourceError:
                    return
                spoken: dict[WebRtcConnection, None] = {}
                for datagram, address in batch:
                    connection = self._hear(datagram, address, nursery, handler)
                    if connection is not None:
                        spoken[connection] = None
                for connection in spoken:
                    connection.received()

    def _hear(
        self, datagram: bytes, address: Address, nursery: trio.Nursery, handler: THandler
    ) -> WebRtcConnection | None:
        if stun.is_stun(datagram):
            request = stun.request_in(datagram)
            if request is not None:
                self._udp.send(stun.answer(request, *address[:2]), address)
            return None
        connection = self._inside.get(address)
        if connection is None or (connection.link.dtls.is_up and is_hello(datagram)):
            if connection is not None and random_of(datagram) == connection.hello_random:
                return None  # late, or again
            return self._greet(datagram, address, nursery, handler)
        connection.link.receive(datagram)
        return connection

    def _greet(
        self, datagram: bytes, address: Address, nursery: trio.Nursery, handler: THandler
    ) -> WebRtcConnection | None:
        answers, dtls = self._greeter.hear(datagram, address)
        for answer in answers:
            self._udp.send(answer, address)
        if dtls is None:
            return None
        if (before := self._inside.get(address)) is not None:
            before.wire.abort("replaced by a newer connection")  # RFC 6347, section 4.2.8
        connection = self._new(dtls, address)
        if not self._keeper.admits(connection.wire):
            return None
        self._inside[address] = connection
        nursery.start_soon(self._keep, connection, handler)
        connection.hello_random = random_of(datagram)
        connection.link.begin()
        return connection

    def _new(self, dtls: Dtls, address: Address) -> WebRtcConnection:
        def forget() -> None:
            if self._inside.get(address) is connection:
                del self._inside[address]

        connection = WebRtcConnection(
            (str(address[0]), int(address[1])),
            dtls,
            lambda datagram: self._udp.send(datagram, address),
            forget,
            inbound=True,
            local=self._local,
        )
        return connection

    def _unreachable(self, address: Address) -> None:
        if (connection := self._inside.get(address)) is not None:
            connection.unreachable()

    async def _keep(self, connection: WebRtcConnection, handler: THandler) -> None:
        async def serve() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.link.run)
                own = self._local.certificate.fingerprint
                with Blamed(connection.wire):
                    await connection.handshake(lambda: (connection.link.dtls.peer_fingerprint, own))
                if not connection.wire.closed.is_set():
                    await handler(connection)  # type: ignore[arg-type] # py-libp2p takes what is multiplexed already
                nursery.cancel_scope.cancel()

        await self._keeper.keep(connection.wire, serve)
