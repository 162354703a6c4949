"""The mesh's own Kademlia DHT: libp2p's messages, under a protocol name of the mesh.

py-libp2p's own class is not used: it serves under ``/ipfs/kad/1.0.0`` whatever prefix it is given, takes what others
say of third peers for its own records and passes it on for two days, answers from them without asking anybody, stores
values of strangers, and dials behind the node's back. Its messages are; so other implementations understand ours.

Nothing here is an authority. Providers announce themselves, over a connection that proves who they are; who passes a
record on can only leave some out or invent peers that nobody can be reached as. Addresses of third peers are hints.
"""

from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.abc import INetStream

from mesh.p2p.hints import usable
from mesh.p2p.host.admission import Refusal
from mesh.p2p.host.connections import Connection, Connections
from mesh.p2p.host.damping import Damper
from mesh.p2p.host.kad_lookup import Lookup
from mesh.p2p.host.kad_messages import (
    ADD_PROVIDER,
    FIND_NODE,
    GET_PROVIDERS,
    GET_VALUE,
    PING,
    TIMEOUT_S,
    Kad,
    KadFault,
    encode,
    read,
)
from mesh.p2p.host.kad_table import RECORD_TTL_S, K, Records, Table, key_of
from mesh.p2p.host.pump import STREAM_ENDED
from mesh.p2p.overlay import DialFailed, Identified, Provider, StreamRefused

_MESSAGES_PER_PEER_PER_S = 20.0
_BURST = 200
_REPUBLISH_S = RECORD_TTL_S / 3
# New neighbours are told soon, and many at once of them together.
_SETTLE_S = 0.5
_LEAST_PAUSE_S = 5.0
_LOOKUP_S = 30.0
_DIAL_S = 3.0
_AT_A_TIME = 4

Dial = Callable[[str, Sequence[str], float], Awaitable[None]]
Open = Callable[[Connection], Awaitable[INetStream]]


class Dht:
    """One node of the DHT. ``dial`` raises DialFailed, ``open_stream`` StreamRefused."""

    def __init__(
        self,
        protocol: str,
        own: str,
        connections: Connections,
        *,
        addresses: Callable[[], tuple[str, ...]],
        dial: Dial,
        open_stream: Open,
        on_misbehaved: Callable[[Connection, str, str], None],
        on_refused: Callable[[Connection, Refusal], None],
    ) -> None:
        self.protocol = protocol
        self._own = own
        self._connections = connections
        self._addresses = addresses
        self._dial = dial
        self._open = open_stream
        self._on_misbehaved = on_misbehaved
        self._on_refused = on_refused
        self._table = Table(own)
        self._records = Records()
        self._provided: tuple[bytes, ...] = ()
        self._changed = trio.Event()
        self._pace = Damper(burst=_BURST, per_s=_MESSAGES_PER_PEER_PER_S)

    # --- what the node asks --------------------------------------------------------------------------------------

    def provide(self, names: Sequence[str]) -> None:
        """From now on be found as a provider of exactly these; what was provided before is forgotten within 30 min."""
        self._provided = tuple(key_of(name) for name in names)
        self._changed.set()

    async def find(self, name: str, timeout_s: float) -> tuple[Provider, ...]:
        """Who says that it provides ``name``, as far as can be found in the time."""
        key, now = key_of(name), trio.current_time()
        found = {
            peer: Provider(peer, addresses, peer, addresses[0] if addresses else "")
            for peer, addresses in self._records.of(key, now).items()
        }
        with trio.move_on_after(timeout_s):
            await self._look_up(GET_PROVIDERS, key, found)
        return tuple(found.values())

    async def keep(self) -> None:
        """Tell what is provided: when that changes, when there are new neighbours, and before records expire."""
        while True:
            with trio.move_on_after(_REPUBLISH_S):
                await self._changed.wait()
            await trio.sleep(_SETTLE_S)
            self._changed = trio.Event()
            if self._provided and len(self._table):
                with trio.move_on_after(_LOOKUP_S):
                    await self._publish(self._provided)
                await trio.sleep(_LEAST_PAUSE_S)

    # --- whom it knows -------------------------------------------------------------------------------------------

    def identified(self, fact: Identified) -> None:
        """A connected peer said what it speaks: if that is this protocol, it is a neighbour."""
        connection = self._connections.of(fact.peer)
        if connection is None or self.protocol not in fact.protocols:
            return
        via = connection.wire.address
        dialled = () if connection.wire.inbound else (f"{via}/p2p/{fact.peer}",)
        known = dict.fromkeys((*dialled, *usable(fact.peer, fact.addresses, via)))
        if self._table.add(fact.peer, known):
            self._changed.set()

    # --- what others ask -----------------------------------------------------------------------------------------

    async def serve(self, stream: INetStream) -> None:
        """Answer on a stream that a peer opened, until it ends."""
        connection = self._connections.carrying(stream)
        if connection is None:
            await stream.reset()
            return
        buffer = bytearray()
        try:
            while (asked := await read(stream, buffer)) is not None:
                if self._pace.admit(connection.peer, trio.current_time()) is None:
                    self._on_refused(connection, Refusal("dht_rate", f"{_MESSAGES_PER_PEER_PER_S:g}/s", "over"))
                    await stream.reset()
                    return
                answer = self._answer(connection, asked)
                if answer is not None:
                    await stream.write(encode(answer))
            await stream.close()
        except KadFault as fault:
            self._on_misbehaved(connection, "dht_message", str(fault))

    def _answer(self, connection: Connection, asked: Kad) -> Kad | None:
        if asked.kind == PING:
            return Kad(PING)
        if asked.kind == ADD_PROVIDER:
            self._take_record(connection, asked)
            return None
        if asked.kind not in (FIND_NODE, GET_PROVIDERS, GET_VALUE):
            raise KadFault(f"messages of type {asked.kind} are not served: this DHT keeps no values")
        if not asked.key:
            raise KadFault("a question without a key")
        via = connection.wire.address
        closer = {
            peer: usable(peer, addresses, via)
            for peer, addresses in self._table.closest(asked.key)
            if peer != connection.peer
        }
        providers: dict[str, tuple[str, ...]] = {}
        if asked.kind == GET_PROVIDERS:
            known = self._records.of(asked.key, trio.current_time())
            providers = {peer: usable(peer, addresses, via) for peer, addresses in known.items()}
            if asked.key in self._provided:
                providers[self._own] = usable(self._own, self._addresses(), via)
        return Kad(asked.kind, asked.key, closer, providers)

    def _take_record(self, connection: Connection, told: Kad) -> None:
        """Only of the peer itself: what anybody says of others is worth nothing, and is passed over."""
        if not told.key:
            raise KadFault("a record without a key")
        addresses = told.providers.get(connection.peer)
        if addresses is not None:
            fit = usable(connection.peer, addresses, connection.wire.address)
            if not connection.wire.inbound:
                fit = (f"{connection.wire.address}/p2p/{connection.peer}", *fit)
            self._records.add(told.key, connection.peer, fit, trio.current_time())

    # --- lookups -------------------------------------------------------------------------------------------------

    async def _publish(self, keys: Sequence[bytes]) -> None:
        """Tell the nodes nearest to each key. Where a lookup has met everybody there is, one does for all keys."""
        nearest: dict[str, list[bytes]] = {}
        lookup: Lookup | None = None
        for key in keys:
            if lookup is None or not lookup.met_everybody:
                lookup = await self._look_up(FIND_NODE, key, {})
            for peer in lookup.answered():
                nearest.setdefault(peer, []).append(key)
        limiter = trio.CapacityLimiter(_AT_A_TIME)
        async with trio.open_nursery() as nursery:
            for peer, told in nearest.items():
                nursery.start_soon(self._tell, peer, told, limiter)

    async def _tell(self, peer: str, keys: Sequence[bytes], limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            connection = self._connections.of(peer)
            if connection is None:
                return
            ours = {self._own: usable(self._own, self._addresses(), connection.wire.address)}
            try:
                stream = await self._open(connection)
                for key in keys:
                    await stream.write(encode(Kad(ADD_PROVIDER, key, providers=ours)))
                await stream.close()
            except (*STREAM_ENDED, StreamRefused):
                return

    async def _look_up(self, kind: int, key: bytes, found: dict[str, Provider]) -> Lookup:
        lookup = Lookup(self._own, key, self._table.closest(key, K))
        async with trio.open_nursery() as nursery:
            while not lookup.done:
                for peer in lookup.next(_AT_A_TIME):
                    lookup.begin(peer)
                    nursery.start_soon(self._ask_one, lookup, peer, Kad(kind, key), found)
                await lookup.changed()
        return lookup

    async def _ask_one(self, lookup: Lookup, peer: str, question: Kad, found: dict[str, Provider]) -> None:
        answer, via = await self._ask(peer, lookup.addresses(peer), question)
        if answer is None:
            self._table.remove(peer)
            lookup.failed(peer)
            return
        for provider, addresses in answer.providers.items():
            if provider != self._own:
                found.setdefault(provider, Provider(provider, usable(provider, addresses, via), peer, via))
        lookup.take(peer, {other: usable(other, at, via) for other, at in answer.closer.items()})

    async def _ask(self, peer: str, addresses: Sequence[str], question: Kad) -> tuple[Kad | None, str]:
        """The answer, and the address that it came from; None when there is none."""
        connection = self._connections.of(peer)
        try:
            if connection is None:
                await self._dial(peer, addresses, _DIAL_S)
                connection = self._connections.of(peer)
            if connection is None:
                return None, ""
            with trio.move_on_after(TIMEOUT_S):
                return await self._converse(connection, question), connection.wire.address
        except (*STREAM_ENDED, StreamRefused, DialFailed, trio.TooSlowError):
            return None, ""
        except KadFault as fault:
            if connection is not None:
                self._on_misbehaved(connection, "dht_message", str(fault))
        return None, ""

    async def _converse(self, connection: Connection, question: Kad) -> Kad | None:
        stream = await self._open(connection)
        answer = None
        try:
            await stream.write(encode(question))
            answer = await read(stream, bytearray())
        finally:
            with trio.CancelScope(shield=True):
                await (stream.close() if answer is not None else stream.reset())
        return answer
