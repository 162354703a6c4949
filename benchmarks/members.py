"""Members of a mesh over real sockets, many in one process: peers and offers, without a broker, experts or tables.

``python -m benchmarks.members DIRECTORY`` is one in a process of its own; it prints itself as a line of JSON.
"""

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

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

CONNECTED_WITHIN_S = 120.0


class Offering:
    """What a member serves, without serving it."""

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

    def set_price(self, price: float) -> None:
        """Offer it for another price from now on."""
        self._offer = msgspec.structs.replace(self._offer, price=price)

    async def ask(self, call: Call, emit: Emit, *, caller: str) -> Answer:
        raise AttemptFailed("failed", "nobody asks")

    def offers(self) -> list[ExpertOffered]:
        return [self._offer]


@dataclass(frozen=True)
class Member:
    """One of them; it is there until the stack that it was made with ends."""

    peer: str
    overlay: ProcessOverlay
    peers: Peers
    journal: Journal
    offering: Offering
    board: OfferBoard

    def meet(self, *others: "Member") -> None:
        """Be connected to these from now on."""
        for other in others:
            if other is not self:
                self.peers.learn(other.peer, other.overlay.addresses, "static")


def quietly() -> None:
    """Log warnings alone: what many members say to themselves is no figure."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


async def member(stack: AsyncExitStack, directory: Path) -> Member:
    """Start one, with the settings that a node has by default."""
    identity, clock = Identity.generate(), SystemClock()
    config = OverlayConfig(listen=["/ip4/127.0.0.1/tcp/0"], mdns=False, inbound_per_address_per_s=1000)
    state = RoutingState(local=identity.peer_id)
    journal = Journal(identity.peer_id, MemoryEventStore(identity.peer_id), clock, folds=(state.apply,))
    overlay = ProcessOverlay(identity, config, directory / "run", directory / "log", agent="benchmark")
    peers = Peers(
        overlay, journal, config, peer_id=identity.peer_id, name="member", mesh="benchmark", clock=clock, rng_seed=1
    )
    offering = Offering(identity.peer_id)
    board = OfferBoard(peers, offering, journal, state, interval_s=config.offer_interval_s, clock=clock)
    await journal.open()
    stack.push_async_callback(journal.close)
    await peers.start()
    stack.push_async_callback(peers.stop)
    await board.start()
    stack.push_async_callback(board.stop)
    return Member(identity.peer_id, overlay, peers, journal, offering, board)


async def until_connected(members: list[Member], to: int) -> None:
    """Return once each is connected to at least so many others."""
    async with asyncio.timeout(CONNECTED_WITHIN_S):
        while any(len(each.peers.connected()) < to for each in members):
            await asyncio.sleep(0.1)


async def serve(directory: Path) -> None:
    quietly()
    async with AsyncExitStack() as stack:
        here = await member(stack, directory)
        line = {"peer": here.peer, "addresses": here.overlay.addresses, "overlay": here.overlay.pid}
        print(json.dumps(line), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
