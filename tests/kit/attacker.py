"""A hostile libp2p peer: ``python tests/kit/attacker.py <attack>,… <multiaddr>``, built on py-libp2p as it is shipped.

It is a process of its own (trio), and somebody else for each attack. It exits with status 0 once it has attacked,
whatever became of it.
"""

import hashlib
import logging
import os
import secrets
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.kad_dht.pb import kademlia_pb2 as kad
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_uvarint
from multiaddr import Multiaddr

GOSSIP = TProtocol("/meshsub/1.1.0")
ECHO = TProtocol("/test/echo/1")
DHT = TProtocol("/test/kad/1.0.0")
GIVE_UP_S = 60.0
HEADER = struct.Struct("!BBHII")
DATA, WINDOW_UPDATE, SYN = 0, 1, 1
PING = 2


class Attacker:
    def __init__(self, host, victim: PeerInfo) -> None:
        self.host = host
        self.victim = victim
        self.key = create_new_key_pair(secrets.token_bytes(32))

    async def connect(self):
        await self.host.get_network().dial_addr(self.victim.addrs[0], self.victim.peer_id)
        return self.host.get_network().get_connections(self.victim.peer_id)[0]

    async def raw_stream(self, payload: bytes) -> None:
        """Bytes in place of a protocol negotiation."""
        connection = await self.connect()
        stream = await connection.new_stream()
        await stream.write(payload)
        await trio.sleep(0.3)

    async def frames(self, frames: Iterator[bytes]) -> None:
        """Bytes in place of yamux frames, encrypted as they should be."""
        known = self.host.get_network().get_connections(self.victim.peer_id)
        connection = known[0] if known else await self.connect()
        for frame in frames:
            await connection.muxed_conn.secured_conn.write(frame)
        await trio.sleep(0.5)

    async def gossip(self, *rpcs: rpc_pb2.RPC) -> None:
        for rpc in rpcs:
            if not self.host.get_network().get_connections(self.victim.peer_id):
                await self.connect()
            stream = await self.host.new_stream(self.victim.peer_id, [GOSSIP])
            body = rpc.SerializeToString()
            await stream.write(encode_uvarint(len(body)) + body)
            await trio.sleep(0.1)

    def message(self, **overrides: object) -> rpc_pb2.Message:
        fields = {
            "from_id": ID.from_pubkey(self.key.public_key).to_bytes(),
            "seqno": b"\0" * 8,
            "topicIDs": ["test"],
            "data": b"x",
        }
        return rpc_pb2.Message(**(fields | overrides))


async def random_protocol_name(attacker: Attacker) -> None:
    await attacker.raw_stream(b"\x13/multistream/1.0.0\n\x05\xff\xfe\xfd\xfc\n")


async def bad_negotiation(attacker: Attacker) -> None:
    for payload in (b"\x05junk\n", b"\x13/multistream/1.0.0\n\x00", b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\x0f"):
        await attacker.raw_stream(payload)


async def oversized_frame(attacker: Attacker) -> None:
    await attacker.frames(iter([HEADER.pack(0, DATA, SYN, 1, 0x7FFFFFFF)]))


async def random_frames(attacker: Attacker) -> None:
    await attacker.frames(os.urandom(120) for _ in range(200))


async def ignored_windows(attacker: Attacker) -> None:
    """48 MiB to a stream whose window is far smaller, and which nobody reads."""
    await attacker.connect()
    stream = await attacker.host.new_stream(attacker.victim.peer_id, [ECHO])
    body = bytes(60 * 1024)  # one message of Noise, between whose halves nothing else of ours can get
    frame = HEADER.pack(0, DATA, 0, stream.muxed_stream.stream_id, len(body)) + body
    await attacker.frames(frame for _ in range(820))


async def stream_flood(attacker: Attacker) -> None:
    await attacker.frames(HEADER.pack(0, WINDOW_UPDATE, SYN, 1 + 2 * number, 0) for number in range(3000))


async def gossip_junk(attacker: Attacker) -> None:
    public = attacker.key.public_key.serialize()
    control = rpc_pb2.ControlMessage
    rpcs = [
        rpc_pb2.RPC(publish=[attacker.message(key=b"junk", signature=b"junk")]),
        rpc_pb2.RPC(publish=[attacker.message(from_id=b"", key=public, signature=b"z" * 64)]),
        rpc_pb2.RPC(publish=[attacker.message(from_id=b"\xff" * 5, key=public, signature=b"z" * 64)]),
        rpc_pb2.RPC(publish=[attacker.message(from_id=b"\x12\x20" + b"a" * 32, key=b"junk", signature=b"z" * 64)]),
        rpc_pb2.RPC(publish=[attacker.message(key=b"\x08\x01\x12\x04aaaa", signature=b"z" * 64)]),
        rpc_pb2.RPC(publish=[attacker.message(topicIDs=["test"] * 2000, key=public, signature=b"z" * 64)]),
        rpc_pb2.RPC(control=control(ihave=[rpc_pb2.ControlIHave(topicID="test", messageIDs=[b"zz", b"\xff" * 10])])),
        rpc_pb2.RPC(control=control(iwant=[rpc_pb2.ControlIWant(messageIDs=[b"zz", b"\xff", b"1,2"])])),
        rpc_pb2.RPC(control=control(graft=[rpc_pb2.ControlGraft(topicID="nope")] * 100)),
        rpc_pb2.RPC(senderRecord=b"junk"),
    ]
    await attacker.gossip(*rpcs)


async def gossip_garbage(attacker: Attacker) -> None:
    await attacker.connect()
    stream = await attacker.host.new_stream(attacker.victim.peer_id, [GOSSIP])
    await stream.write(encode_uvarint(120) + os.urandom(120))
    await trio.sleep(0.3)


async def gossip_oversized(attacker: Attacker) -> None:
    await attacker.connect()
    stream = await attacker.host.new_stream(attacker.victim.peer_id, [GOSSIP])
    await stream.write(encode_uvarint(1 << 40) + bytes(1000))
    await trio.sleep(0.3)


async def identify_junk(attacker: Attacker) -> None:
    async def answer(stream) -> None:
        await stream.write(encode_uvarint(200) + b"\xff" * 200)
        await stream.close()

    attacker.host.set_stream_handler(IDENTIFY, answer)
    await attacker.connect()
    await trio.sleep(0.5)


async def never_reads(attacker: Attacker) -> None:
    """Wants everything that is gossiped, shows signs of life, and reads nothing of what it gets."""
    opened = trio.Event()

    async def hold(stream) -> None:
        opened.set()
        await trio.sleep_forever()

    attacker.host.set_stream_handler(GOSSIP, hold)
    connection = await attacker.connect()
    await opened.wait()
    wanted = rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID="test")])
    subscribed = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid="test")]
    await attacker.gossip(rpc_pb2.RPC(subscriptions=subscribed), rpc_pb2.RPC(control=wanted))

    async def read(_n: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    secured = connection.muxed_conn.secured_conn
    secured.read = read
    print("deaf", flush=True)
    for number in range(1000):
        await secured.write(HEADER.pack(0, PING, SYN, 0, number))
        await trio.sleep(0.1)


async def connect_and_go(attacker: Attacker) -> None:
    for _ in range(20 if "/ws" in str(attacker.victim.addrs[0]) else 60):  # over WebSocket it takes 0.4 s to close one
        await attacker.connect()
        await attacker.host.disconnect(attacker.victim.peer_id)


async def dht_garbage(attacker: Attacker) -> None:
    """Junk, a length that is a lie, values, and a question without a key: each in a connection of its own."""
    for junk in (secrets.token_bytes(500), b"\xff\xff\xff\x7f", b"\x04\x08\x00\x12\x00", b"\x02\x08\x03"):
        if not attacker.host.get_network().get_connections(attacker.victim.peer_id):
            await attacker.connect()
        stream = await attacker.host.new_stream(attacker.victim.peer_id, [DHT])
        await stream.write(junk)
        await trio.sleep(0.2)


async def dht_forgery(attacker: Attacker) -> None:
    """A record in the name of somebody else, then more questions than anybody has."""
    await attacker.connect()
    somebody = ID.from_pubkey(create_new_key_pair(bytes(32)).public_key)
    key = b"\x12\x20" + hashlib.sha256(b"forged").digest()
    forged = kad.Message(type=kad.Message.MessageType.ADD_PROVIDER, key=key)
    forged.providerPeers.add(id=somebody.to_bytes(), addrs=[Multiaddr("/ip4/127.0.0.1/tcp/22").to_bytes()])
    question = kad.Message(type=kad.Message.MessageType.GET_PROVIDERS, key=key)
    stream = await attacker.host.new_stream(attacker.victim.peer_id, [DHT])
    for message in (forged, *[question] * 400):
        body = message.SerializeToString()
        await stream.write(encode_uvarint(len(body)) + body)
    await trio.sleep(0.5)


ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        random_protocol_name,
        bad_negotiation,
        oversized_frame,
        random_frames,
        ignored_windows,
        stream_flood,
        gossip_junk,
        gossip_garbage,
        gossip_oversized,
        identify_junk,
        never_reads,
        connect_and_go,
        dht_garbage,
        dht_forgery,
    )
}


async def main(names: str, address: str) -> None:
    for name in names.split(","):
        await attack(name, info_from_p2p_addr(Multiaddr(address)))
    print("done", flush=True)
    os._exit(0)


async def attack(name: str, victim: PeerInfo) -> None:
    config = ConnectionConfig(max_connections=10**6, min_connections=0, low_watermark=0, high_watermark=10**6)
    key = create_new_key_pair(secrets.token_bytes(32))
    host = new_host(key_pair=key, connection_config=config, enable_tcp=True, enable_websocket=True)
    async with host.run([]):
        with trio.move_on_after({"never_reads": 110}.get(name, GIVE_UP_S)):
            try:
                await ATTACKS[name](Attacker(host, victim))
            except Exception as error:  # noqa: BLE001 - being thrown out is how most attacks end
                print(f"{name}: ended with {error!r}", flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(main, *sys.argv[1:])
