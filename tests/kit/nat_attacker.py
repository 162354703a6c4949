"""A peer that says nonsense to relays, hole punchers and AutoNAT.

``python -m tests.kit.nat_attacker <address> <seed>``

It prints how many streams it bent, and exits with status 0.
"""

import logging
import os
import random
import secrets
import sys

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, StopMessage
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

PROTOCOLS = {
    "/libp2p/circuit/relay/0.2.0/hop": HopMessage(type=HopMessage.RESERVE),
    "/libp2p/circuit/relay/0.2.0/stop": StopMessage(type=StopMessage.CONNECT),
    "/libp2p/dcutr": HolePunch(type=HolePunch.CONNECT, ObsAddrs=[b"\x04\x7f\0\0\1\x06\0\x16", b"\xff"]),
    "/libp2p/autonat/1.0.0": Message(type=Message.DIAL),
}
STREAMS = 40
WITHIN_S = 30


def bent(rng: random.Random, good: bytes) -> bytes:
    """Nonsense, or nearly sense."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 40))
    if kind == 1:
        return b"\xff" * rng.randrange(1, 12)
    if kind == 2:
        return bytes([len(good) + 30]) + good
    changed = bytearray(good)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes([len(changed)]) + bytes(changed) + (rng.randbytes(9) if kind == 3 else b"")


async def one(address: str, rng: random.Random, protocol: str) -> None:
    """A new identity, one connection, one bent stream."""
    config = ConnectionConfig(max_connections=10**6, min_connections=0, low_watermark=0, high_watermark=10**6)
    host = new_host(key_pair=create_new_key_pair(secrets.token_bytes(32)), connection_config=config)
    async with host.run([]):
        victim = info_from_p2p_addr(Multiaddr(address))
        await host.get_network().dial_addr(victim.addrs[0], victim.peer_id)
        stream = await host.new_stream(victim.peer_id, [TProtocol(protocol)])
        await stream.write(bent(rng, PROTOCOLS[protocol].SerializeToString()))
        if rng.random() < 0.5:
            await stream.close()
        with trio.move_on_after(0.2):
            await stream.read(100)


async def main(address: str, seed: str) -> None:
    rng, tried = random.Random(int(seed)), 0
    with trio.move_on_after(WITHIN_S):
        for _ in range(STREAMS):
            for protocol in PROTOCOLS:
                with trio.move_on_after(2):
                    try:
                        tried += 1
                        await one(address, rng, protocol)
                    except Exception:  # noqa: BLE001 - being thrown out is how it ends
                        continue
            if tried >= STREAMS:
                break
    print(f"bent {tried}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(main, *sys.argv[1:])
