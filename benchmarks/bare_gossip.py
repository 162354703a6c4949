"""The baseline of offers: py-libp2p's gossipsub as it comes, many hosts in one process, no mesh around it.

``python -m benchmarks.bare_gossip HOSTS MESSAGES``: the first publishes, one line of JSON says when the others had it,
and how many of them: some pairs of hosts that connect while others do never join their gossip.
"""

import json
import logging
import os
import random
import sys
import time
from contextlib import AsyncExitStack

import trio
from libp2p.abc import IHost, ISubscriptionAPI
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from benchmarks.bare_libp2p import LOOPBACK, host
from benchmarks.topology import pairs

TOPIC = "benchmark"
SETTLE_S = 10.0
PAUSE_S = (1.5, 3.0)
WITHIN_S = 3.0  # three heartbeats, in which what was missed is offered again
BODY_BYTES = 400


async def member(stack: AsyncExitStack, number: int) -> tuple[IHost, Pubsub]:
    """As our own: degrees 3, 2 and 4, a heartbeat of a second, signed messages."""
    here = host(f"gossip {number}".encode())
    await stack.enter_async_context(here.run([LOOPBACK]))
    router = GossipSub([PROTOCOL_ID_V11], 3, 2, 4, heartbeat_interval=1, spam_protection_enabled=False)
    pubsub = Pubsub(here, router, strict_signing=True)
    await stack.enter_async_context(background_trio_service(pubsub))
    await stack.enter_async_context(background_trio_service(router))
    await pubsub.wait_until_ready()
    return here, pubsub


async def measure(hosts: int, messages: int) -> None:
    arrived: list[list[float]] = [[] for _ in range(messages)]
    rng = random.Random(hosts)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        members = [await member(stack, number) for number in range(hosts)]
        for number, (_, pubsub) in enumerate(members):
            subscription = await pubsub.subscribe(TOPIC)
            nursery.start_soon(take, subscription, arrived if number else [[] for _ in arrived])
        for first, second in pairs(hosts):
            there = members[second][0]
            await members[first][0].connect(info_from_p2p_addr(there.get_addrs()[0]))
        await trio.sleep(SETTLE_S)
        took = []
        for number in range(messages):
            await trio.sleep(rng.uniform(*PAUSE_S))
            began = time.perf_counter()
            await members[0][1].publish(TOPIC, number.to_bytes(4, "big") + os.urandom(BODY_BYTES))
            with trio.move_on_after(WITHIN_S):
                while len(arrived[number]) < hosts - 1:
                    await trio.sleep(0.001)
            took.append(sorted((at - began) * 1000 for at in arrived[number]))
        figures = {
            "each_ms": [ms for each in took for ms in each],
            "all_ms": [each[-1] for each in took if each],
            "reached": sum(map(len, took)) / messages / (hosts - 1),
        }
        print(json.dumps(figures), flush=True)
        os._exit(0)  # closing py-libp2p hosts takes its time


async def take(subscription: ISubscriptionAPI, arrived: list[list[float]]) -> None:
    while True:
        message = await subscription.get()
        arrived[int.from_bytes(message.data[:4], "big")].append(time.perf_counter())


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    trio.run(measure, *map(int, sys.argv[1:]))
