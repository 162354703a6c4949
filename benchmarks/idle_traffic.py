"""What a node of a mesh of ten sends and receives when nobody asks anything: heartbeats, offers, gossip, keep-alives.

Ten real overlays, all connected to all, in a network namespace of their own, where the loopback interface carries
nothing else: its counter has every byte, TCP and IP headers and acknowledgements too.
"""

import asyncio
import fcntl
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.measure import Measure, below, watched
from mesh.clock import SystemClock
from mesh.config import OverlayConfig
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.experts import ExpertOffered
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from mesh.experts.offers import OfferBoard
from mesh.experts.state import RoutingState
from mesh.identity import Identity
from mesh.p2p.overlay_process import ProcessOverlay
from mesh.p2p.peers import Peers

NODES = 10
SETTLE_S = 20.0
WATCH_S = 60.0
CONNECTED_WITHIN_S = 120.0
LIMIT_MB_PER_H = 20.0
_UP_FLAG, _GET_FLAGS, _SET_FLAGS = 0x1, 0x8913, 0x8914
_INSIDE = "inside"


def run() -> Iterable[Measure]:
    """Measure; about two minutes. Without a network namespace there is nothing that could be counted."""
    command = namespace()
    if command is None:
        print("  idle traffic is not measured: there is no network namespace to be had")
        return
    done = subprocess.run(
        [*command, sys.executable, "-m", __name__, _INSIDE], stdout=subprocess.PIPE, check=True, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    yield below(f"idle traffic of a node, mesh of {NODES}", figures["mb_per_h"], "MB/h", limit=LIMIT_MB_PER_H)
    yield watched("packets of an idle node", figures["packets_per_s"], "per s")


def namespace() -> list[str] | None:
    """How to run something in a network of its own; None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        if subprocess.run(["unshare", *options, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return ["unshare", *options]
    return None


class Offering:
    """What a node serves, without serving it."""

    def __init__(self, peer: str) -> None:
        self._offer = ExpertOffered(
            peer=peer,
            expert="llama",
            model="llama-3.1-8b-instruct-q4",
            domains=("language", "reasoning", "coding"),
            concurrency=4,
            queue_limit=64,
            in_flight=0,
            queued=0,
            available=True,
            quality=0.5,
            valid_s=60.0,
        )

    async def ask(self, call: Call, emit: Emit, *, caller: str) -> Answer:
        raise AttemptFailed("failed", "nobody asks")

    def offers(self) -> list[ExpertOffered]:
        return [self._offer]


async def inside() -> None:
    loopback_up()
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            members = [await member(stack, Path(directory) / str(number)) for number in range(NODES)]
            for _, _, peers in members:
                for other, overlay, _ in members:
                    if other != peers.peer_id:
                        peers.learn(other, overlay.addresses, "static")
            await until_connected([peers for _, _, peers in members])
            await asyncio.sleep(SETTLE_S)
            before = loopback()
            await asyncio.sleep(WATCH_S)
            size, packets = (after - earlier for after, earlier in zip(loopback(), before, strict=True))
    # What loopback carries once, one node sent and another received.
    figures = {"mb_per_h": 2 * size / NODES / WATCH_S * 3600 / 1e6, "packets_per_s": 2 * packets / NODES / WATCH_S}
    print(json.dumps(figures), flush=True)


async def member(stack: AsyncExitStack, directory: Path) -> tuple[str, ProcessOverlay, Peers]:
    identity, clock = Identity.generate(), SystemClock()
    config = OverlayConfig(listen=["/ip4/127.0.0.1/tcp/0"], mdns=False)
    state = RoutingState(local=identity.peer_id)
    journal = Journal(identity.peer_id, MemoryEventStore(identity.peer_id), clock, folds=(state.apply,))
    overlay = ProcessOverlay(identity, config, directory / "run", directory / "log", agent="benchmark")
    peers = Peers(
        overlay, journal, config, peer_id=identity.peer_id, name="idle", mesh="benchmark", clock=clock, rng_seed=1
    )
    offers = OfferBoard(
        peers, Offering(identity.peer_id), journal, state, interval_s=config.offer_interval_s, clock=clock
    )
    await journal.open()
    stack.push_async_callback(journal.close)
    await peers.start()
    stack.push_async_callback(peers.stop)
    await offers.start()
    stack.push_async_callback(offers.stop)
    return identity.peer_id, overlay, peers


async def until_connected(everyone: list[Peers]) -> None:
    async with asyncio.timeout(CONNECTED_WITHIN_S):
        while any(len(peers.connected()) < len(everyone) - 1 for peers in everyone):
            await asyncio.sleep(0.1)


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(control, _GET_FLAGS, request))
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP_FLAG))


def loopback() -> tuple[int, int]:
    """Bytes and packets that the loopback interface of this namespace has carried."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    fields = next(line for line in lines if line.strip().startswith("lo:")).split(":")[1].split()
    return int(fields[0]), int(fields[1])


if __name__ == "__main__" and sys.argv[1:] == [_INSIDE]:
    asyncio.run(inside())
