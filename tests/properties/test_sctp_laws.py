"""SCTP over a network that loses, repeats and reorders: what is sent arrives once and in order."""

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("google_crc32c", reason="the [webrtc] extra is not installed")

from mesh.p2p.host.webrtc.sctp.association import Association
from mesh.p2p.host.webrtc.sctp.packets import PORT, SctpFault, chunk, packet
from tests.kit.effort import times

PACKET_BYTES, WINDOW_BYTES, MESSAGE_BYTES = 1160, 1 << 17, 1 << 15
Message = tuple[int, int, bytes]


class End:
    """One side, and all that it was given."""

    def __init__(self, window_bytes: int = WINDOW_BYTES, *, takes: bool = True) -> None:
        self.heard: list[Message] = []
        self.resets: list[int] = []
        self.takes = takes
        self.association = Association(
            packet_bytes=PACKET_BYTES,
            window_bytes=window_bytes,
            max_message_bytes=MESSAGE_BYTES,
            on_message=self._on_message,
            on_reset=self.resets.append,
        )

    def _on_message(self, stream: int, protocol: int, message: bytes) -> None:
        self.heard.append((stream, protocol, message))
        if not self.takes:
            self.association.receiver.held += len(message)

    def take_all(self, now: float) -> None:
        self.takes = True
        self.association.receiver.held = 0
        self.association.receiver.taken(now)


class Network:
    """Two ends, a seed, and virtual time."""

    def __init__(self, seed: int, loss: float, *, both_begin: bool = False, window_bytes: int = WINDOW_BYTES) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.now = 0.0
        self.left, self.right = End(window_bytes), End(window_bytes)
        self._flying: list[tuple[float, int, End, bytes]] = []
        self._sent = 0
        self.left.association.connect(0.0)
        if both_begin:
            self.right.association.connect(0.0)

    def run(self, until: Callable[[], bool], within_s: float = 600.0, steps: int = 200_000) -> None:
        """Until the condition holds; with a bound to steps, so that timers which stand still are found out."""
        for _ in range(steps):
            self._send()
            if until():
                return
            due = [end.association.deadline() for end in (self.left, self.right)]
            due += [self._flying[0][0]] if self._flying else []
            assert any(one is not None for one in due), "nobody has anything to do any more"
            self.now = max(self.now, min(one for one in due if one is not None))
            assert self.now < within_s, "it takes too long"
            self._step()
        raise AssertionError("time stands still")

    def _send(self) -> None:
        for end, other in ((self.left, self.right), (self.right, self.left)):
            for data in end.association.packets(self.now):
                assert len(data) <= PACKET_BYTES
                for _ in range(1 + (self.random.random() < self.loss / 4)):
                    if self.random.random() >= self.loss:
                        self._sent += 1
                        arrives = self.now + 0.01 + self.random.random() * 0.005 * bool(self.loss)
                        heapq.heappush(self._flying, (arrives, self._sent, other, data))

    def _step(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            _, _, end, data = heapq.heappop(self._flying)
            end.association.receive(data, self.now)
        for end in (self.left, self.right):
            end.association.tick(self.now)


def by_stream(messages: list[Message]) -> dict[int, list[Message]]:
    return {stream: [one for one in messages if one[0] == stream] for stream in {one[0] for one in messages}}


@settings(max_examples=times(300, 25), deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([0.0, 0.01, 0.05, 0.1]), st.booleans())
def test_messages_of_each_stream_arrive_once_and_in_order_and_then_its_end(seed: int, loss: float, both: bool) -> None:
    network = Network(seed, loss, both_begin=both)
    sent: dict[str, list[Message]] = {}
    for name, end in (("left", network.left), ("right", network.right)):
        sizes = [network.random.choice([1, 100, 1132, 1133, 9000, 16384]) for _ in range(40)]
        sent[name] = [(network.random.randrange(5), 53, network.random.randbytes(size)) for size in sizes]
        for message in sent[name]:
            end.association.sender.put(*message)
        for stream in range(5):
            end.association.resets.want(stream)
    network.run(lambda: len(network.left.resets) == len(network.right.resets) == 5)
    assert by_stream(network.right.heard) == by_stream(sent["left"])
    assert by_stream(network.left.heard) == by_stream(sent["right"])


def test_without_loss_it_is_soon_as_fast_as_the_window_allows() -> None:
    """4 MiB over a way of 20 ms: what the window of 128 KiB allows are 6.5 MB/s."""
    network = Network(1, 0.0)
    for _ in range(256):
        network.left.association.sender.put(0, 53, bytes(16384))
    network.run(lambda: len(network.right.heard) == 256)
    assert network.now < 2.0


def test_who_is_not_read_stops_and_goes_on_when_he_is() -> None:
    network = Network(1, 0.0)
    network.right.takes = False
    for _ in range(64):
        network.left.association.sender.put(0, 53, bytes(16384))
    network.run(lambda: network.now > 30.0)
    held = network.right.association.receiver.held
    assert WINDOW_BYTES // 2 < held <= WINDOW_BYTES + (1 << 16)
    network.right.take_all(network.now)
    network.run(lambda: len(network.right.heard) == 64)


def test_streams_take_turns() -> None:
    network = Network(1, 0.0)
    for _ in range(100):
        network.left.association.sender.put(0, 53, bytes(16384))
    network.left.association.sender.put(1, 53, b"small")
    network.run(lambda: (1, 53, b"small") in network.right.heard)
    assert len(network.right.heard) < 10


def test_a_peer_that_ignores_its_window_is_not_remembered_beyond_it() -> None:
    end = established()
    end.takes = False
    first = end.association.receiver.cumulative
    for number in range(1, 2000):
        one = data(first + number, bytes(1100))
        end.association.receive(packet(end.association._tag, one), 1.0)
    assert end.association.receiver.held <= WINDOW_BYTES + (1 << 16)


def data(tsn: int, payload: bytes, flags: int = 3) -> bytes:
    head = (tsn & 0xFFFFFFFF).to_bytes(4, "big") + bytes(4) + (53).to_bytes(4, "big")
    return chunk(0, head + payload, flags)


def established() -> End:
    network = Network(1, 0.0)
    network.run(lambda: network.left.association.is_up and network.right.association.is_up)
    return network.left


CHUNKS = st.builds(
    chunk, st.sampled_from([0, 1, 2, 3, 4, 5, 10, 11, 13, 130, 192, 200]), st.binary(max_size=60), st.integers(0, 15)
)


@settings(max_examples=times(20_000, 300), deadline=None)
@given(st.lists(st.lists(CHUNKS, max_size=4).map(b"".join) | st.binary(max_size=80), max_size=6), st.booleans())
def test_any_packets_are_a_fault_or_are_survived(bodies: list[bytes], right_tag: bool) -> None:
    end = established()
    for body in bodies:
        try:
            end.association.receive(packet(end.association._tag if right_tag else 0, body), 1.0)
        except ConnectionError:
            return
        end.association.packets(1.0)
        due = end.association.deadline()
        assert due is None or due > 1.0
    assert end.association.receiver.held <= WINDOW_BYTES + (1 << 16)


def test_a_message_that_never_ends_and_a_wrong_checksum_are_faults() -> None:
    end = established()
    first = end.association.receiver.cumulative
    end.association.receive(packet(end.association._tag, data(first + 1, bytes(1100), flags=2)), 1.0)
    with pytest.raises(SctpFault, match="more than"):  # noqa: PT012 - which of them is the last straw is not the point
        for number in range(2, 50):
            end.association.receive(packet(end.association._tag, data(first + number, bytes(1100), flags=0)), 1.0)
    with pytest.raises(SctpFault, match="checksum"):
        end.association.receive(PORT.to_bytes(2, "big") * 2 + bytes(12), 1.0)
