"""Dialling an address of WebRTC-direct: STUN until it answers, then DTLS with who has its certificate, and Noise."""

import os
import secrets
import socket
import string

import trio
from libp2p.transport.exceptions import OpenConnectionError

from mesh.p2p.addresses import Target
from mesh.p2p.host.udp import Udp
from mesh.p2p.host.webrtc import stun
from mesh.p2p.host.webrtc.certificates import ephemeral, fingerprint_in
from mesh.p2p.host.webrtc.connection import WebRtcConnection
from mesh.p2p.host.webrtc.dtls import Dtls, DtlsFault
from mesh.p2p.host.webrtc.local import Local

_UFRAG = "libp2p+webrtc+v1/"
# RFC 8445, section 5.3: letters, digits, + and /; others are not answered by everybody.
_ICE_CHARACTERS = string.ascii_letters + string.digits
_UFRAG_CHARACTERS = 32
# RFC 8489, section 6.2.1, begins with 500 ms, and a request that was lost costs as much.
_ASK_AGAIN_S = 0.2
_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


class Dial:
    """One attempt."""

    def __init__(self, target: Target, local: Local) -> None:
        self._target = target
        self._local = local
        self._certificate = ephemeral()
        own = "".join(secrets.choice(_ICE_CHARACTERS) for _ in range(_UFRAG_CHARACTERS))
        self._ufrag = (_UFRAG + own).encode()

    async def run(self) -> WebRtcConnection:
        """The connection, whoever's it is. Raises OpenConnectionError."""
        try:
            expected = fingerprint_in(self._target.certhash)
            udp, remote = await self._connected()
        except (OSError, ValueError) as error:
            raise OpenConnectionError(f"no WebRTC connection: {error}") from error
        connection = WebRtcConnection(
            remote,
            Dtls.dialling(self._certificate),
            udp.send,
            udp.close,
            inbound=False,
            local=self._local,
            ufrag=self._ufrag,
        )
        connection.wire.address += f"/certhash/{self._target.certhash}"
        try:
            await self._reach(udp)
            udp.on_unreachable = lambda _: connection.unreachable()
            self._local.nursery.start_soon(connection.link.run)
            self._local.nursery.start_soon(_read, udp, connection)
            connection.link.begin()
            self._local.nursery.start_soon(_insist, udp, connection)
            await connection.handshake(
                lambda: (self._certificate.fingerprint, _same(expected, connection.link.dtls.peer_fingerprint)),
            )
        except (OSError, DtlsFault) as error:
            connection.wire.abort(str(error))
            raise OpenConnectionError(f"no WebRTC connection: {error}") from error
        except BaseException:
            connection.wire.abort("given up")
            raise
        if connection.wire.closed.is_set():
            raise OpenConnectionError(f"no WebRTC connection: {connection.wire.end_reason}")
        return connection

    async def _connected(self) -> tuple[Udp, tuple[str, int]]:
        family = _FAMILIES.get(self._target.kind, socket.AF_UNSPEC)
        found = await trio.socket.getaddrinfo(self._target.host, self._target.port, family, socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            raw.connect(address)  # of UDP: nobody is waited for
        except BaseException:
            raw.close()
            raise
        return Udp(raw), (str(address[0]), int(address[1]))

    async def _reach(self, udp: Udp) -> None:
        """Ask until it answers. Raises ConnectionRefusedError where nobody listens."""
        with trio.CancelScope() as scope:
            udp.on_unreachable = lambda _: scope.cancel()
            await self._ask(udp)
        if scope.cancelled_caught:
            raise ConnectionRefusedError("nobody listens there")

    async def _ask(self, udp: Udp) -> None:
        transaction = os.urandom(12)
        tie_breaker = secrets.randbits(64)
        while True:
            udp.send(stun.request(self._ufrag, transaction, tie_breaker))
            with trio.move_on_after(_ASK_AGAIN_S):
                while True:
                    for datagram, _ in await udp.receive():
                        if stun.is_answer(datagram, transaction, self._ufrag):
                            return


async def _insist(udp: Udp, connection: WebRtcConnection) -> None:
    """Say hello, every 200 ms: who answers STUN may have nobody there for DTLS yet, and OpenSSL waits for 1 s."""
    hello = connection.link.dtls.take()
    while not connection.link.is_answered and not connection.wire.closed.is_set():
        for datagram in hello:
            udp.send(datagram)
        await trio.sleep(_ASK_AGAIN_S)


async def _read(udp: Udp, connection: WebRtcConnection) -> None:
    """Hand on what comes until the connection is over."""
    while True:
        try:
            batch = await udp.receive()
        except trio.ClosedResourceError:
            return
        for datagram, address in batch:
            if not stun.is_stun(datagram):
                connection.link.receive(datagram)
            elif (request := stun.request_in(datagram)) is not None:
                udp.send(stun.answer(request, *address[:2]))
        connection.received()


def _same(expected: bytes, found: bytes) -> bytes:
    if expected != found:
        raise DtlsFault("its certificate is not the one of the address")
    return found
