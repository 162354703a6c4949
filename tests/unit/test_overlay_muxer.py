"""What must hold of every write to a connection, whoever is cancelled meanwhile."""

import struct

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.yamux.yamux import TYPE_WINDOW_UPDATE, YAMUX_HEADER_FORMAT

from mesh.p2p.host.muxer import SteadyYamux
from mesh.p2p.host.pump import CHUNK_BYTES
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.wires import tcp_wire


class SlowSecuredConnection:
    """Takes a while over each write, as a full socket does."""

    is_initiator = True

    def __init__(self) -> None:
        self.begun = 0
        self.written: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.begun += 1
        await trio.sleep(0.05)
        self.written.append(data)


async def muxer_over(secured: SlowSecuredConnection) -> SteadyYamux:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    wire = tcp_wire(await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]), inbound=False)
    await listener.aclose()
    return SteadyYamux(secured, ID.from_pubkey(create_new_key_pair(bytes(32)).public_key), wire)


def test_what_is_pumped_at_a_time_is_one_message_of_noise() -> None:
    async def main() -> None:
        secured = SlowSecuredConnection()
        muxer = await muxer_over(secured)
        stream = await muxer.open_stream()
        secured.written.clear()
        await stream.write(bytes(CHUNK_BYTES))
        assert [len(message) for message in secured.written] == [MAX_PLAINTEXT_LENGTH]
        muxer.wire.abort("done")

    trio.run(main)


def test_a_cancelled_write_is_finished() -> None:
    async def main() -> None:
        secured = SlowSecuredConnection()
        muxer = await muxer_over(secured)
        for _ in range(5):
            with trio.move_on_after(0.01):
                await muxer.open_stream()
        assert secured.begun == len(secured.written) == 5
        muxer.wire.abort("done")

    trio.run(main)


def test_a_sender_gets_room_again_once_half_of_its_window_was_read() -> None:
    async def main() -> None:
        secured = SlowSecuredConnection()
        muxer = await muxer_over(secured)
        stream = await muxer.open_stream()
        secured.written.clear()
        credit = window = stream.target_recv_window

        async def carry(size: int) -> None:
            """The peer sends so much, and it is read."""
            nonlocal credit
            stream.recv_window -= size
            credit -= size
            muxer.stream_buffers[stream.stream_id].extend(bytes(size))
            assert len(await stream.read(size)) == size
            credit += sum(granted(frame) for frame in secured.written)
            assert credit == stream.recv_window <= stream.target_recv_window
            secured.written.clear()

        for _ in range(100):
            await carry(1)
        assert credit == window - 100
        await carry(window // 2 - 101)
        assert credit == window - (window // 2 - 1)
        await carry(1)
        assert credit == stream.target_recv_window >= window
        for size in (1, 4096, 65536, 1) * 8:
            await carry(size)
            assert credit > stream.target_recv_window // 2
        muxer.wire.abort("done")

    trio.run(main)


def granted(frame: bytes) -> int:
    """The bytes that a frame gives room for; 0 where it is no window update."""
    _, kind, _, _, size = struct.unpack(YAMUX_HEADER_FORMAT, frame[:12])
    return int(size) if kind == TYPE_WINDOW_UPDATE else 0


def test_more_than_its_share_ends_the_connection() -> None:
    async def main() -> None:
        muxer = await muxer_over(SlowSecuredConnection())
        muxer.stream_buffers[1] = bytearray(32 << 20)
        with pytest.raises(trio.TooSlowError):
            await muxer._read_data_body(1)
        assert muxer.overflowed
        muxer.wire.abort("done")

    trio.run(main)


def test_what_a_connection_held_is_free_when_it_is_over() -> None:
    async def main() -> None:
        muxer = await muxer_over(SlowSecuredConnection())
        muxer.budget.receive(muxer, 1000)
        muxer.secured_conn.read = _ended  # type: ignore[attr-defined]
        with trio.move_on_after(2):
            await muxer.start()
        assert muxer.budget.total == 0
        muxer.wire.abort("done")

    async def _ended(_n: int | None = None) -> bytes:
        return b""

    trio.run(main)


def test_all_connections_together_hold_no_more_than_the_budget() -> None:
    async def main() -> None:
        muxer = await muxer_over(SlowSecuredConnection())
        muxer.budget = ReceiveBudget(1000)
        muxer.stream_buffers[1] = bytearray(900)
        with pytest.raises(trio.TooSlowError):
            await muxer._read_data_body(200)
        assert muxer.refusal is not None
        assert (muxer.refusal.rule, muxer.refusal.limit) == ("max_receive_bytes", "1000")
        assert muxer.wire.closed.is_set()

    trio.run(main)
