"""Gossipsub v1.1 for small, rare messages, with every fault of a peer caught where it enters."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IMuxedConn, INetStream
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service.trio_manager import TrioManager

from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.damping import Damper

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio know it as

MAX_RPC_BYTES = 256 * 1024
# Measured: 25 msg/s over ten nodes is comfortable; what a peer may push at us leaves room for many publishers.
MESSAGES_PER_PEER_PER_S = 100.0
_BURST = 200


def _no_parent(_manager: TrioManager, _task: trio.lowlevel.Task) -> None:
    """Each message is a task, and py-libp2p looks through all tasks, some for each peer, for the one that begins it.

    With 64 peers that was a sixth of what the process does. A task without a parent ends with the service all the same.
    """


TrioManager._find_parent_task = _no_parent  # type: ignore[method-assign,assignment] # noqa: SLF001 - it has no switch


class SafePubsub(Pubsub):
    """Pubsub whose readers and forwarders survive whatever a peer sends."""

    def __init__(
        self,
        host: BasicHost,
        router: GossipSub,
        topics: tuple[str, ...],
        *,
        on_misbehaved: Callable[[ID, str, str], None],
        on_paced: Callable[[ID, Refusal], None],
        is_connected: Callable[[str], bool],
    ) -> None:
        super().__init__(
            host,
            router,
            strict_signing=True,
            max_inbound_rpc_size=MAX_RPC_BYTES,
            allowed_topics=frozenset(topics),
        )
        self._on_misbehaved = on_misbehaved
        self._on_paced = on_paced
        self._is_connected = is_connected
        self._pace = Damper(burst=_BURST, per_s=MESSAGES_PER_PEER_PER_S)

    def connection_lost(self, peer_id: ID, muxed: IMuxedConn) -> None:
        """A connection is over. If our stream to the peer was on it, another is opened, at once or when it is back.

        py-libp2p learns of it 0.1 s later, and overlooks it for good when the peer is connected again by then.
        """
        stream = self.peers.get(peer_id)
        if stream is not None and stream.muxed_conn is muxed:
            self._handle_dead_peer(peer_id)

    def heal(self, peer_id: ID) -> None:
        """Open our stream to a connected peer, if it is missing: py-libp2p gives up after some kinds of failure."""
        if peer_id not in self.peers:
            self._schedule_peer_stream_retry(peer_id)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """A lost stream says nothing of the peer's subscriptions while the peer is there: it will not repeat them."""
        topics = [topic for topic, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        if self._is_connected(str(peer_id)):
            for topic in topics:
                self.handle_subscription(peer_id, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic))

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """See `Pubsub.push_msg`; what a peer sent must not end the service."""
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        if self._pace.admit(str(msg_forwarder), trio.current_time()) is None:
            self._on_paced(msg_forwarder, Refusal("gossip_rate", f"{MESSAGES_PER_PEER_PER_S:g}/s", "over"))
            return
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001 - any fault here is the peer's: it is recorded, the message dropped
            self._on_misbehaved(msg_forwarder, "gossip_message", repr(error)[:200])

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """See `Pubsub.continuously_read_stream`."""
        try:
            await super().continuously_read_stream(stream)
        except (EOFError, IOException):
            await stream.reset()
        except Exception as error:  # noqa: BLE001 - as above; the stream is of no use any more
            self._on_misbehaved(stream.muxed_conn.peer_id, "gossip_rpc", repr(error)[:200])
            await stream.reset()


async def drain(
    pubsub: SafePubsub,
    topic: str,
    deliver: Callable[[str, str, bytes], None],
    *,
    task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Subscribe, then hand over every message of others for ever: an undrained topic drops messages."""
    subscription = await pubsub.subscribe(topic)
    task_status.started()
    own = pubsub.my_id.to_bytes()
    while True:
        message = await subscription.get()
        if message.from_id != own:
            deliver(topic, ID(message.from_id).to_base58(), message.data)
