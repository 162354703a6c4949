"""Strangers at a port of WebRTC-direct, who go as far as a test wants. Blocking: they wait for loopback alone."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from mesh.p2p.addresses import udp_target_of
from mesh.p2p.host.webrtc.certificates import ephemeral
from mesh.p2p.host.webrtc.dtls import Dtls

_AGAIN_S = 1.0
_ATTEMPTS = 30


class Stranger:
    """A UDP socket that is connected to the port of an address."""

    def __init__(self, address: str) -> None:
        target = udp_target_of(address)
        assert target is not None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((target.host, target.port))
        self.socket.settimeout(_AGAIN_S)
        self._certificate = ephemeral()
        self.hello = self._begin()

    def _begin(self) -> bytes:
        self.dtls = Dtls.dialling(self._certificate)
        self.dtls.proceed()
        (hello,) = self.dtls.take()
        return hello

    def say(self, datagram: bytes) -> None:
        self.socket.send(datagram)

    def prove_address(self) -> None:
        """Bring the cookie back: from now on the listener keeps something of us, or has refused us."""
        cookie = self._answer_to(self.hello)  # which is for our address, whatever hello it answers
        self._begin()  # a hello that is a second old would be said again, in one datagram with the next
        self.dtls.receive(cookie)
        for datagram in self.dtls.take():
            self.say(datagram)

    def finish_dtls(self) -> None:
        """All of DTLS; SCTP never begins."""
        self.prove_address()
        for _ in range(_ATTEMPTS):
            try:
                self.dtls.receive(self.socket.recv(2048))
            except TimeoutError:
                self.dtls.expire()
            for datagram in self.dtls.take():
                self.say(datagram)
            if self.dtls.is_up:
                return
        raise AssertionError("DTLS did not come about")

    def send(self, packet: bytes) -> None:
        """Inside DTLS."""
        self.dtls.send(packet)
        for datagram in self.dtls.take():
            self.say(datagram)

    def _answer_to(self, datagram: bytes) -> bytes:
        for _ in range(_ATTEMPTS):
            self.say(datagram)
            try:
                return self.socket.recv(2048)
            except TimeoutError:
                continue
        raise AssertionError("nobody answers")


@contextmanager
def strangers(address: str, count: int) -> Iterator[list[Stranger]]:
    with ExitStack() as stack:
        found = [Stranger(address) for _ in range(count)]
        for one in found:
            stack.enter_context(one.socket)
        yield found
