"""The baseline: py-libp2p and nothing else, a process at each end. ``python -m benchmarks.bare_libp2p server``

``… client ADDRESS SEQUENTIAL SLOTS EACH`` measures 1 KiB echoes: one after the other on one persistent stream, and
with a persistent stream for each of SLOTS concurrent users. ``… transport ADDRESS TIMES BYTES`` measures how long it
takes to connect, and how fast one stream carries much. All ends print one line of JSON.

py-libp2p ships with PY_YAMUX_RELEASE_ON_READ=1: a frame that gives the sender room again for each read. It is faster
without (0), and that is the baseline wherever nothing else is said.
"""

import os

os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")

import json
import logging
import sys
import time

import trio
from libp2p import create_identity_from_seed, new_host
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IOException
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from benchmarks.measure import percentile

ECHO = TProtocol("/benchmark/echo/1.0.0")
SINK = TProtocol("/benchmark/sink/1.0.0")
CHUNK = os.urandom(64 * 1024)
LOOPBACK = Multiaddr("/ip4/127.0.0.1/tcp/0")
BODY = os.urandom(1024)


async def read_exactly(stream: INetStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await stream.read(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


async def echo(stream: INetStream) -> None:
    try:
        while True:
            head = await read_exactly(stream, 4)
            await stream.write(head + await read_exactly(stream, int.from_bytes(head, "big")))
    except (EOFError, IOException, StreamError):
        await stream.reset()


async def sink(stream: INetStream) -> None:
    """Take as much as is announced, then say so."""
    left = int.from_bytes(await read_exactly(stream, 8), "big")
    while left:
        left -= len(await stream.read(min(left, len(CHUNK))))
    await stream.write(b".")


async def ask(stream: INetStream) -> float:
    """One echo; returns its seconds."""
    started = time.perf_counter()
    await stream.write(len(BODY).to_bytes(4, "big") + BODY)
    size = int.from_bytes(await read_exactly(stream, 4), "big")
    answer = await read_exactly(stream, size)
    assert answer == BODY
    return time.perf_counter() - started


def host(seed: bytes) -> IHost:
    limits = ConnectionConfig(
        max_connections_per_peer=1, min_connections=0, low_watermark=0, high_watermark=0, max_connections=10**6
    )
    return new_host(
        key_pair=create_identity_from_seed(seed.ljust(32, b"\0")), listen_addrs=[LOOPBACK], connection_config=limits
    )


async def serve() -> None:
    here = host(b"server")
    here.set_stream_handler(ECHO, echo)
    here.set_stream_handler(SINK, sink)
    async with here.run([LOOPBACK]):
        print(json.dumps({"address": str(here.get_addrs()[0])}), flush=True)
        await trio.sleep_forever()


async def measure(address: str, sequential: int, slots: int, each: int) -> None:
    here = host(b"client")
    async with here.run([LOOPBACK]):
        peer = info_from_p2p_addr(Multiaddr(address))
        await here.connect(peer)
        streams = [await here.new_stream(peer.peer_id, [ECHO]) for _ in range(slots)]
        for stream in streams:
            await ask(stream)
        one_by_one = [await ask(streams[0]) for _ in range(sequential)]
        latencies: list[float] = []

        async def user(stream: INetStream) -> None:
            for _ in range(each):
                latencies.append(await ask(stream))

        started = time.perf_counter()
        async with trio.open_nursery() as users:
            for stream in streams:
                users.start_soon(user, stream)
        took = time.perf_counter() - started
        figures = {
            "sequential_p50_ms": percentile(one_by_one, 50) * 1000,
            "concurrent_per_s": len(latencies) / took,
            "concurrent_p99_ms": percentile(latencies, 99) * 1000,
        }
        print(json.dumps(figures), flush=True)


async def transport(address: str, times: int, size: int) -> None:
    here = host(b"client")
    peer = info_from_p2p_addr(Multiaddr(address))
    took = []
    async with here.run([LOOPBACK]):
        for _ in range(times):
            started = time.perf_counter()
            await here.connect(peer)
            took.append((time.perf_counter() - started) * 1000)
            await here.disconnect(peer.peer_id)
            await trio.sleep(0.15)  # it is listed for another 0.1 s, and connecting would do nothing
        await here.connect(peer)
        stream = await here.new_stream(peer.peer_id, [SINK])
        started = time.perf_counter()
        await stream.write(size.to_bytes(8, "big"))
        for _ in range(size // len(CHUNK)):
            await stream.write(CHUNK)
        await read_exactly(stream, 1)
        seconds = time.perf_counter() - started
    figures = {"p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99), "bulk_mb_per_s": size / seconds / 1e6}
    print(json.dumps(figures), flush=True)


def main(role: str, *arguments: str) -> None:
    logging.disable(logging.ERROR)  # it logs each connection that ends
    if role == "server":
        trio.run(serve)
    elif role == "transport":
        address, *numbers = arguments
        trio.run(transport, address, *map(int, numbers))
    else:
        address, *numbers = arguments
        trio.run(measure, address, *map(int, numbers))
    os._exit(0)  # closing a py-libp2p host takes its time


if __name__ == "__main__":
    main(*sys.argv[1:])
