"""What a peer says it is, by our asking and by its own push: a stream that ends before a word is no identity."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.identity.identify import identify
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.utils import varint

from mesh.p2p.host.identify import PUSH, Identifier
from mesh.p2p.overlay import Identified, StreamRefused

PEER = ID.from_pubkey(create_new_key_pair(bytes(32)).public_key)
MESSAGE = Identify(agent_version="other/1", protocols=["/ipfs/ping/1.0.0"]).SerializeToString()
WHOLE = varint.encode_uvarint(len(MESSAGE)) + MESSAGE


class EndingStream:
    """Gives what it was made with, a few bytes at a time, and then ends."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.muxed_conn = SimpleNamespace(peer_id=PEER)
        self.closed = False

    async def read(self, n: int) -> bytes:
        taken, self._content = self._content[: min(n, 5)], self._content[min(n, 5) :]
        return taken

    async def close(self) -> None:
        self.closed = True


def heard(content: bytes, *, pushed: bool) -> list[Identified]:
    """What is reported of a stream with this content; raises what asking raises."""
    reported: list[Identified] = []
    handlers: dict[str, Any] = {}
    host: Any = SimpleNamespace(set_stream_handler=handlers.__setitem__)
    identifier = Identifier(host, identify.AGENT_VERSION, reported.append)
    stream: Any = EndingStream(content)
    connection: Any = SimpleNamespace(peer=str(PEER))

    async def main() -> None:
        try:
            await (handlers[PUSH](stream) if pushed else identifier.ask(connection, stream))
        finally:
            assert stream.closed

    trio.run(main)
    return reported


@pytest.mark.parametrize("pushed", [True, False])
def test_a_peer_is_what_it_says(pushed: bool) -> None:
    assert heard(WHOLE, pushed=pushed) == [Identified(str(PEER), "other/1", ("/ipfs/ping/1.0.0",), ())]


def test_a_push_that_ends_empty_tells_of_no_change() -> None:
    assert heard(b"", pushed=True) == []


def test_an_answer_that_ends_empty_is_no_identity() -> None:
    with pytest.raises(StreamRefused, match="did not say what it is"):
        heard(b"", pushed=False)
