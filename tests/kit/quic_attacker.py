"""Hostile QUIC over UDP sockets: garbage, a client that says what a test wants, and a network that is bad."""

import random
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from libp2p.crypto.ed25519 import create_new_key_pair

from mesh.p2p.host.certificates import ALPN, make_certificate

DATAGRAM_BYTES = 1232
NEGOTIATION = b"\x13/multistream/1.0.0\n"


def first_packet(rng: random.Random, token: bytes = b"") -> bytes:
    """An Initial of RFC 9000 that nobody can decrypt; whoever answers it has not looked."""
    header = bytes([0xC0 | rng.randrange(16)]) + bytes([0, 0, 0, 1, 8]) + rng.randbytes(8) + b"\x08" + rng.randbytes(8)
    header += (len(token) | 0x4000).to_bytes(2) + token
    rest = DATAGRAM_BYTES - len(header) - 2
    return header + (rest | 0x4000).to_bytes(2) + rng.randbytes(rest)


def garbage(rng: random.Random) -> bytes:
    """One of all kinds."""
    first = first_packet(rng)
    match rng.randrange(12):
        case 0:
            return rng.randbytes(rng.randrange(1500))
        case 1:
            return first[: rng.randrange(len(first))]
        case 2:
            return first_packet(rng, rng.randbytes(rng.randrange(200)))
        case 3:  # another version
            return first[:1] + rng.randbytes(4) + first[5:]
        case 4:  # the answer to that
            return b"\x80" + bytes(4) + first[5:]
        case 5:  # a Retry
            return bytes([0xF0]) + first[1 : rng.randrange(30, 1200)]
        case 6:  # a handshake
            return bytes([0xE0]) + first[1:]
        case 7:  # like a stateless reset
            return bytes([0x40 | rng.randrange(64)]) + rng.randbytes(rng.randrange(45))
        case 8:
            return bytes([0x40 | rng.randrange(64)]) + rng.randbytes(1200)
        case 9:  # ids of lengths that there are not
            return first[:5] + bytes([rng.randrange(256)]) + first[6:]
        case 10:
            return first if rng.random() < 0.97 else first + rng.randbytes(60_000)
        case _:
            return first


def flood(to: tuple[str, int], source: str, count: int, per_s: float, make: Callable[[random.Random], bytes]) -> int:
    """Send ``count`` datagrams, at ``per_s`` as far as this machine can; how many went out."""
    rng = random.Random(source)
    ready = [make(rng) for _ in range(min(count, 2000))]
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        begun = time.monotonic()
        for number in range(count):
            try:
                sock.sendto(ready[number % len(ready)], to)
                sent += 1
            except OSError:  # what was sent before was not wanted
                pass
            ahead = number / per_s - (time.monotonic() - begun)
            if ahead > 0.01:
                time.sleep(ahead)
    return sent


class Intruder:
    """A client of aioquic's with an identity of its own: ``shows`` is how many certificates, ``proves`` what."""

    def __init__(
        self,
        to: tuple[str, int],
        source: str = "127.0.0.1",
        *,
        shows: int = 1,
        proves: Callable[..., object] = make_certificate,
        alpn: str = ALPN,
    ) -> None:
        certificate, key = proves(create_new_key_pair(secrets.token_bytes(32)))  # type: ignore[misc]
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=[alpn], verify_mode=0, max_datagram_size=DATAGRAM_BYTES, idle_timeout=60
        )
        if shows:
            configuration.certificate, configuration.private_key = certificate, key
            configuration.certificate_chain = [certificate] * (shows - 1)
        self.connection = QuicConnection(configuration=configuration)
        self.events: list[events.QuicEvent] = []
        self.received: dict[int, bytes] = {}
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((source, 0))
        self.sock.setblocking(False)
        self._to = to
        self.connection.connect(to, time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self) -> None:
        for data, to in self.connection.datagrams_to_send(time.monotonic()):
            self.sock.sendto(data, to)

    def step(self, wait_s: float = 0.02) -> None:
        """Send what there is, take what comes, and mind the time."""
        self.send()
        if select.select([self.sock], [], [], wait_s)[0]:
            for data in self._datagrams():
                self.connection.receive_datagram(data, self._to, time.monotonic())
        at = self.connection.get_timer()
        if at is not None and at <= time.monotonic():
            self.connection.handle_timer(time.monotonic())
        while (event := self.connection.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, events.StreamDataReceived):
                self.received[event.stream_id] = self.received.get(event.stream_id, b"") + event.data
        self.send()

    def _datagrams(self) -> Iterator[bytes]:
        while True:
            try:
                yield self.sock.recvfrom(65535)[0]
            except BlockingIOError:
                return

    def until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, f"it did not come; there was {self.events[-5:]}"
            self.step()

    def handshake(self) -> None:
        """It is there, as far as we can know."""
        self.until(lambda: self.of(events.HandshakeCompleted) or self.ended)

    def of(self, kind: type[events.QuicEvent]) -> list[events.QuicEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self) -> int | None:
        """The error code that it ended with; None while it has not."""
        over = self.of(events.ConnectionTerminated)
        return int(over[0].error_code) if over else None  # type: ignore[attr-defined]

    def half_a_handshake(self) -> None:
        """As far as a token, and a first packet that brings it; what comes then is not taken."""
        self.send()
        self.until(lambda: self.connection._retry_count or self.ended)

    def open(self, *protocols: bytes) -> int:
        """A new stream for which protocols are proposed."""
        number = self.connection.get_next_available_stream_id()
        proposed = b"".join(bytes([len(one) + 1]) + one + b"\n" for one in protocols)
        self.connection.send_stream_data(number, NEGOTIATION + proposed)
        return number

    def accepted(self, number: int) -> bool:
        """Whether the other side has agreed on a protocol."""
        return self.received.get(number, b"").count(b"\n") > 1

    def until_quiet(self, for_s: float = 1.0) -> None:
        """Go on until nothing more can be sent."""
        known, since = -1, time.monotonic()
        while time.monotonic() - since < for_s:
            self.step()
            if (sent := self.connection._remote_max_data_used) != known:
                known, since = sent, time.monotonic()

    def give_up(self, number: int) -> None:
        """Both directions of a stream."""
        self.connection.reset_stream(number, 0)
        self.connection.stop_stream(number, 0)

    def close(self) -> None:
        self.connection.close()
        self.send()


class BadNetwork(threading.Thread):
    """Carries datagrams to ``to`` and back from a port of its own; loses, doubles and reorders some of them."""

    def __init__(self, to: tuple[str, int], *, loss: float = 0.0, seed: int = 1) -> None:
        super().__init__(daemon=True)
        self.loss = loss
        self._rng = random.Random(seed)
        self._to = to
        self._near = self._socket()
        self._far = self._socket()
        self._client: tuple[str, int] | None = None
        self._late: list[tuple[float, socket.socket, bytes, tuple[str, int]]] = []
        self._ending = threading.Event()
        self._rebind = threading.Event()

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/udp/{self._near.getsockname()[1]}/quic-v1"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self.join()
        self._near.close()
        self._far.close()

    def rebind(self) -> None:
        """As a NAT does that has forgotten: what comes from now on comes from another port."""
        self._rebind.set()

    def run(self) -> None:
        while not self._ending.is_set():
            if self._rebind.is_set():
                self._rebind.clear()
                self._far.close()
                self._far = self._socket()
            for sock in select.select([self._near, self._far], [], [], 0.005)[0]:
                self._take(sock)
            now = time.monotonic()
            due = [one for one in self._late if one[0] <= now]
            self._late = [one for one in self._late if one[0] > now]
            for _, out, data, to in due:
                self._out(out, data, to)

    def _take(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                data, source = sock.recvfrom(65535)
            except OSError:
                return
            if sock is self._near:
                self._client = source
            out, to = (self._far, self._to) if sock is self._near else (self._near, self._client)
            if to is not None:
                self._carry(out, data, to)

    def _carry(self, out: socket.socket, data: bytes, to: tuple[str, int]) -> None:
        if self._rng.random() < self.loss:
            return
        if self._rng.random() < self.loss:
            self._late.append((time.monotonic() + self._rng.random() * 0.02, out, data, to))
            if self._rng.random() < 0.5:
                return
        self._out(out, data, to)

    def _out(self, out: socket.socket, data: bytes, to: tuple[str, int]) -> None:
        try:
            out.sendto(data, to)
        except OSError:  # full, or closed since: lost
            return
