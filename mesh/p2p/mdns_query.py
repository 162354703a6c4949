"""One question from a port of our own (RFC 6762, section 6.7): it is answered at once, and to us.

Ordinary questions are answered by multicast, and not again within a second: a node that starts while others do would
wait for that second.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence

from zeroconf import DNSIncoming, DNSOutgoing, DNSQuestion, DNSText  # type: ignore[attr-defined] # has no __all__
from zeroconf.const import _CLASS_IN, _FLAGS_QR_QUERY, _MDNS_ADDR, _MDNS_PORT, _TYPE_PTR

from mesh.p2p.mdns_records import SERVICE

_ASK_AGAIN_S = (0.0, 0.2)
_LISTEN_S = 2.0

TakeText = Callable[[str, bytes], None]


class OneShotQuery(asyncio.DatagramProtocol):
    """Asks who is there, and hands over each TXT record that comes back as ``take(service name, text)``."""

    def __init__(self, take: TakeText) -> None:
        self._take = take
        self._transports: list[asyncio.DatagramTransport] = []
        self._timers: list[asyncio.TimerHandle] = []

    @classmethod
    async def ask(cls, interfaces: Sequence[str], take: TakeText) -> "OneShotQuery":
        """Ask on every IPv4 interface; listen for two seconds. Raises OSError when an interface cannot be used."""
        query = cls(take)
        loop = asyncio.get_running_loop()
        for interface in interfaces:
            if ":" not in interface:
                transport, _ = await loop.create_datagram_endpoint(lambda: query, sock=_socket(interface))
                query._transports.append(transport)
        query._timers = [loop.call_later(delay, query._send) for delay in _ASK_AGAIN_S]
        query._timers.append(loop.call_later(_LISTEN_S, query.close))
        return query

    def close(self) -> None:
        """Stop listening."""
        for timer in self._timers:
            timer.cancel()
        for transport in self._transports:
            transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """See asyncio.DatagramProtocol."""
        del addr
        message = DNSIncoming(data)
        if not message.valid or not message.is_response():
            return
        for record in message.answers():
            if isinstance(record, DNSText) and record.name.endswith("." + SERVICE):
                self._take(record.name, record.text)

    def error_received(self, exc: Exception) -> None:
        """An interface that cannot send: the others, and ordinary mDNS, go on."""

    def _send(self) -> None:
        question = DNSOutgoing(_FLAGS_QR_QUERY, multicast=False, id_=secrets.randbelow(1 << 16))
        question.add_question(DNSQuestion(SERVICE, _TYPE_PTR, _CLASS_IN))
        for transport in self._transports:
            for packet in question.packets():
                transport.sendto(packet, (_MDNS_ADDR, _MDNS_PORT))


def _socket(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        sock.bind((interface, 0))
    except OSError:
        sock.close()
        raise
    return sock
