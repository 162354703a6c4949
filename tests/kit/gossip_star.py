"""``python -m tests.kit.gossip_star LEAVES WITHIN_S``: hosts that gossip as ours do, all connected to the first alone.

Once the hub has told some that they are not its neighbours, each says something. Prints a line of JSON for each: how
many neighbours it had, and whom it had heard within the time. In a process of its own, because py-libp2p does not close
what it opened.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from mesh.p2p.host import gossip
from mesh.p2p.host.router import Router

TOPIC = "/mesh/lab/offers/1.0.0"


class Member:
    """A host that gossips, and what it heard."""

    def __init__(self, number: int) -> None:
        host = new_host(create_new_key_pair(number.to_bytes(32, "big")), disable_identify_address_discovery=True)
        assert isinstance(host, BasicHost)
        self.host = host
        self.router = Router()
        self.heard: set[int] = {number}
        self.pubsub = gossip.SafePubsub(
            self.host,
            self.router,
            (TOPIC,),
            on_misbehaved=lambda *fault: print(fault, file=sys.stderr),
            on_paced=lambda *fault: print(fault, file=sys.stderr),
            is_connected=lambda _peer: True,
        )

    async def join(self, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        await stack.enter_async_context(self.host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]))
        await stack.enter_async_context(background_trio_service(self.pubsub))
        await stack.enter_async_context(background_trio_service(self.router))
        await self.pubsub.wait_until_ready()
        await nursery.start(gossip.drain, self.pubsub, TOPIC, lambda _topic, _peer, data: self.heard.add(int(data)))

    @property
    def neighbours(self) -> int:
        return len(self.router.mesh[TOPIC])

    @property
    def was_pruned(self) -> bool:
        return not self.neighbours and TOPIC in self.router.back_off


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.02)


async def main(leaves: int, within_s: float) -> None:
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        everyone = [Member(number) for number in range(leaves + 1)]
        hub = everyone[0]
        for one in everyone:
            await one.join(stack, nursery)
        for leaf in everyone[1:]:
            await leaf.host.connect(info_from_p2p_addr(hub.host.get_addrs()[0]))
        await until(lambda: len(hub.pubsub.peer_topics.get(TOPIC, ())) == leaves)
        await until(lambda: hub.neighbours <= 4 and any(leaf.was_pruned for leaf in everyone[1:]))
        before = [one.neighbours for one in everyone]
        for number, one in enumerate(everyone):
            await one.pubsub.publish(TOPIC, str(number).encode())
        with trio.move_on_after(within_s):
            await until(lambda: all(len(one.heard) == leaves + 1 for one in everyone))
        for one, neighbours in zip(everyone, before, strict=True):
            print(json.dumps({"neighbours": neighbours, "heard": sorted(one.heard)}), flush=True)
        os._exit(0)


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    trio.run(main, int(sys.argv[1]), float(sys.argv[2]))
