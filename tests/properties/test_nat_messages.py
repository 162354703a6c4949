"""Whatever a peer sends where relays, DCUtR or AutoNAT speak: a message, its fault, or an end."""

import random
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, StopMessage
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch

from mesh.p2p.host.delimited import MAX_BYTES, PeerFault, receive_message, send_message
from mesh.p2p.host.identify import readable
from tests.kit.effort import times

KINDS = (HopMessage, StopMessage, HolePunch, Message)


class Bytes:
    """A stream that gives its bytes in pieces of any size."""

    def __init__(self, data: bytes = b"", piece: int = 1 << 20) -> None:
        self.data = bytearray(data)
        self.piece = piece

    async def read(self, size: int) -> bytes:
        taken = bytes(self.data[: min(size, self.piece)])
        del self.data[: len(taken)]
        return taken

    async def write(self, data: bytes) -> None:
        self.data += data


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def received(stream: Bytes, kind: Any) -> Any:
    return finished(receive_message(stream, kind, "rule"))  # type: ignore[arg-type]


@settings(max_examples=1500, deadline=None)
@given(data=st.binary(max_size=80), piece=st.integers(1, 30), kind=st.sampled_from(KINDS))
@example(data=b"\xff\xff\xff\xff", piece=1, kind=HopMessage)
@example(data=b"\x81\x40", piece=1, kind=HolePunch)
def test_any_bytes_are_a_message_or_the_peers_fault(data: bytes, piece: int, kind: Any) -> None:
    try:
        message = received(Bytes(data, piece), kind)
    except (PeerFault, EOFError):
        return
    assert isinstance(message, kind)


@given(addresses=st.lists(st.binary(max_size=40), max_size=20), piece=st.integers(1, 50))
def test_what_was_sent_is_received_and_not_a_byte_more(addresses: list[bytes], piece: int) -> None:
    stream = Bytes(piece=piece)
    finished(send_message(stream, HolePunch(type=HolePunch.CONNECT, ObsAddrs=addresses)))  # type: ignore[arg-type]
    stream.data += b"what follows"
    assert list(received(stream, HolePunch).ObsAddrs) == addresses
    assert bytes(stream.data) == b"what follows"
    for raw in addresses:
        readable(raw)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_bent_messages_are_messages_or_faults(kind: Any) -> None:
    rng = random.Random(kind.__name__)
    good = HolePunch(type=HolePunch.CONNECT, ObsAddrs=[b"\x04\x7f\0\0\1\x06\0\x16"]).SerializeToString()
    for _ in range(times(100_000, 10_000)):
        data = bytearray(bytes([len(good)]) + good if rng.random() < 0.7 else rng.randbytes(rng.randrange(24)))
        for _ in range(rng.randrange(3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert isinstance(received(Bytes(bytes(data)), kind), kind)
        except (PeerFault, EOFError):
            continue


def test_a_message_over_the_limit_is_not_read() -> None:
    stream = Bytes(b"\xff\x7f" + b"x" * 20_000)
    with pytest.raises(PeerFault, match=str(MAX_BYTES)):
        received(stream, Message)
    assert len(stream.data) == 20_000
