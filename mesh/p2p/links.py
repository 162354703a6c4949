"""What there is with each peer, and what follows from whatever happens to it."""

import asyncio
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import assert_never

import structlog

from mesh.clock import Clock
from mesh.config import OverlayConfig
from mesh.errors import PeerMisbehaved
from mesh.identity import Identity
from mesh.p2p.access import Access
from mesh.p2p.calls import Handler
from mesh.p2p.chronicle import Chronicle
from mesh.p2p.dialer import Dialer
from mesh.p2p.door import Door
from mesh.p2p.hearing import Hearing
from mesh.p2p.heartbeat import Heartbeat
from mesh.p2p.link import Link
from mesh.p2p.liveness import Change, ConfirmedDown
from mesh.p2p.membership import GIVE_UP_ATTEMPTS, Membership
from mesh.p2p.messages import VERSION, Hello
from mesh.p2p.overlay import (
    Connected,
    Disconnected,
    HolePunched,
    Identified,
    Misbehaved,
    Overlay,
    OverlayFact,
    PathChanged,
    PortMapped,
    ReachabilityChanged,
    Refused,
    RelayLost,
    RelayReserved,
    Restarted,
)
from mesh.p2p.parting import Parting
from mesh.p2p.penalties import Penalties
from mesh.p2p.sealed_streams import Sealing
from mesh.p2p.session import SessionRefused
from mesh.p2p.streams import Fault, Streams
from mesh.p2p.tasks import TaskOwner

log = structlog.get_logger(__name__)

# A peer that is down and has not been heard of for this long leaves no trace but the journal.
_FORGET_S = 600.0
# Who is cut off for what it said on a stream has this long to read why.
_FAREWELL_S = 0.25
# Who is refused for good, for its mesh's name say, is not dialled for `redial_max_s`, twice as long each further time,
# up to so many times that: whoever mends a setting starts a node anew, and that one dials.
_REFUSED_TIMES = 10
# How long a node that leaves waits for its peers to hang up.
_GOODBYE_S = 1.0


class Links(Mapping[str, Link]):
    """A `Link` for each peer, by its id.

    What the overlay reports (`on_fact`), and what is said and not said on streams, becomes facts in the journal, dials
    and streams; who breaks rules is cut off and kept out. ``usable`` are the peers that can be called.
    """

    def __init__(
        self,
        overlay: Overlay,
        chronicle: Chronicle,
        config: OverlayConfig,
        hello: Hello,
        handlers: Mapping[str, Handler],
        tasks: TaskOwner,
        clock: Clock,
        rng: random.Random,
        *,
        peer_id: str,
        identity: Identity | None,
    ) -> None:
        self.usable: frozenset[str] = frozenset()
        self._chronicle = chronicle
        self._tasks = tasks
        self._clock = clock
        self._links: dict[str, Link] = {}
        self._parted = asyncio.Event()
        self._heartbeat_s = config.heartbeat_s
        self._low_water = config.low_water
        self._redial_max_s = config.redial_max_s
        self._refusals = Penalties(config.redial_max_s, _REFUSED_TIMES * config.redial_max_s)
        self.door = Door(overlay, clock, pause_s=config.redial_max_s, known=self.known, on_admitted=self._on_admitted)
        self._parting = Parting(overlay, self.door, tasks, clock)
        self.membership = Membership(
            peer_id,
            config.redial_min_s,
            config.redial_max_s,
            rng,
            admits=lambda peer: not self.door.denies(peer),
            room=lambda: self._low_water - len(self.connected()),
        )
        self._dialer = Dialer(
            overlay,
            self.membership,
            tasks,
            clock,
            timeout_s=config.dial_timeout_s,
            is_connected=self.is_connected,
            on_failed=self._on_dial_failed,
        )
        self._unreached: dict[str, str] = {}
        self._refused: dict[str, SessionRefused] = {}
        self._heartbeat = Heartbeat(
            self._links,
            clock,
            config.heartbeat_s,
            hearing=Hearing(overlay.check, tasks, clock, config.heartbeat_s),
            on_change=self._on_change,
            on_idle=self._on_idle,
            us=peer_id,
        )
        sealing = None
        if identity is not None and config.seal != "off":
            sealing = Sealing(identity, config, clock, rng, tasks)
        self.streams = Streams(
            overlay,
            config,
            hello,
            handlers,
            clock,
            rng,
            tasks,
            sealing=sealing,
            on_usable=self._on_usable,
            on_unusable=self._on_unusable,
            on_fault=self._on_fault,
            on_greeted=self._on_greeted,
            on_leaving=self._on_leaving,
            on_pong=self._heartbeat.on_pong,
            on_ping=self._heartbeat.on_ping,
        )

    def __getitem__(self, peer: str) -> Link:
        return self._links[peer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def connected(self) -> tuple[Link, ...]:
        """What there is with each peer that is connected."""
        return tuple(link for link in self._links.values() if link.connections)

    def is_connected(self, peer: str) -> bool:
        """Whether there is a connection."""
        link = self._links.get(peer)
        return link is not None and bool(link.connections)

    def is_parting(self, peer: str) -> bool:
        """Whether there is a connection that only lasts until the peer has read why it ends."""
        link = self._links.get(peer)
        return link is not None and bool(link.connections) and link.misbehaved

    def known(self) -> dict[str, tuple[str, ...]]:
        """Every peer that is kept connected, with its addresses."""
        return {member.peer: member.addresses for member in self.membership.members.values()}

    def keep(self) -> tuple[asyncio.Task[None], ...]:
        """Dial and beat, in tasks that end only with their owner."""
        return (
            self._tasks.start(self._dialer.run(), "dial peers"),
            self._tasks.start(self._heartbeat.run(), "beat"),
            self._tasks.start(self.door.run(), "admit again"),
        )

    def say_goodbye(self) -> None:
        """Tell every peer that this node leaves."""
        for link in self._links.values():
            self.streams.say_goodbye(link, "this node is stopping")

    async def until_parted(self) -> None:
        """A peer that heard our goodbye hangs up; what was not read when the overlay ends is lost."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                while any(link.connections for link in self._links.values()):
                    self._parted.clear()
                    await self._parted.wait()
        except TimeoutError:
            log.debug("some peers did not hang up")

    def end(self) -> None:
        """The overlay has ended, and every connection with it."""
        for link in list(self._links.values()):
            for connection in list(link.connections):
                self._on_disconnected(Disconnected(link.peer, connection, "this node stopped"))

    def learn(
        self,
        peer: str,
        addresses: Sequence[str],
        source: str,
        *,
        static: bool = False,
        by: str = "",
        patience: int = GIVE_UP_ATTEMPTS,
        within_s: float = 0.0,
    ) -> None:
        """See `Peers.learn`; a ``static`` peer is never given up."""
        now = self._clock.monotonic()
        if not self.membership.learn(peer, addresses, now, static=static, patience=patience, within_s=within_s):
            return
        if self.is_connected(peer):
            self.membership.connected(peer, self._clock.monotonic())
        self._chronicle.discovered(peer, self.membership.members[peer].addresses, source, by)
        self._dialer.wake()

    def _on_dial_failed(
        self, peer: str, addresses: tuple[str, ...], error: str, attempt: int, retry_in_s: float
    ) -> None:
        self._chronicle.dial_failed(peer, addresses, error, attempt, retry_in_s)
        if self._is_static(peer):
            if peer not in self._unreached:
                log.warning("a configured peer cannot be reached", peer=peer, error=error)
            self._unreached[peer] = error
            self._refused.pop(peer, None)

    def _is_static(self, peer: str) -> bool:
        member = self.membership.members.get(peer)
        return member is not None and member.static

    @property
    def unreached(self) -> Mapping[str, str]:
        """Configured peers that could not be dialled when it was last tried, and why."""
        return self._unreached

    @property
    def refused(self) -> Mapping[str, SessionRefused]:
        """Configured peers that were refused for good when they were last connected, and why."""
        return self._refused

    async def restrict(self, access: Access) -> int:
        """See `Peers.restrict`."""
        before = self.connected()
        await self.door.restrict(access)
        return sum(not link.connections for link in before)

    def _on_admitted(self, peers: Collection[str]) -> None:
        self.membership.admit_again(peers, self._clock.monotonic())
        self._dialer.wake()

    def let_go(self, peer: str, reason: str) -> None:
        """See `Peers.let_go`."""
        self.door.let_go(peer)
        link = self._links.get(peer)
        if link is not None:
            link.misbehaved = True  # the longest pause, and no more streams
        self._parting.disconnect(peer, reason)

    def _come_back_too_soon(self, link: Link) -> None:
        pause = self.door.stays_away_s(link.peer)
        connected = len(self.connected())
        if pause <= 0 or connected <= self._low_water:
            return
        limit, value = f"{self._low_water} for {pause:.0f} s more", str(connected)
        self._chronicle.refused(link.peer, link.address, rule="trimmed", limit=limit, value=value)
        link.misbehaved = True
        self._parting.disconnect(link.peer, "it was let go a moment ago, and there are as many peers as before")

    def on_fact(self, fact: OverlayFact) -> None:
        """See `OverlayHandler.on_fact`."""
        match fact:
            case Connected():
                self._on_connected(fact)
            case Disconnected():
                self._on_disconnected(fact)
            case Identified():
                self._on_identified(fact)
            case Refused(peer, address, rule, limit, value):
                self._chronicle.refused(peer, address, rule=rule, limit=limit, value=value)
            case Misbehaved(peer, address, rule, detail):
                self.misbehaved(peer, address, rule, detail)
            case PathChanged():
                self._on_path_changed(fact)
            case HolePunched() | RelayReserved() | RelayLost() | ReachabilityChanged() | PortMapped():
                self._chronicle.nat(fact)
            case Restarted():
                self._chronicle.restarted(fact)
                self.membership.overlay_restarted(self._clock.monotonic())
                self._dialer.wake()
            case _:
                assert_never(fact)

    def _on_connected(self, fact: Connected) -> None:
        now = self._clock.monotonic()
        link = self._links.get(fact.peer)
        if link is None:
            link = self._links[fact.peer] = Link(fact.peer, self._heartbeat_s, now)
        first = not link.connections
        link.connections[fact.connection] = now
        link.address = fact.address
        link.proved = (fact.address,) if fact.direction == "outbound" else link.proved
        self._chronicle.connected(fact)
        if first:
            link.connected_at = now
            link.misbehaved = link.leaving = False
            link.refused_for_s = 0.0
            self.membership.connected(fact.peer, now)
            if self._unreached.pop(fact.peer, None) is not None:
                log.info("a configured peer is reached", peer=fact.peer)
            self.streams.keep(link)
            self._come_back_too_soon(link)

    def _on_path_changed(self, fact: PathChanged) -> None:
        link = self._links.get(fact.peer)
        if link is None or fact.connection not in link.connections:
            return
        link.address = fact.address
        self._chronicle.path_changed(fact)
        if fact.path == "direct":
            self.streams.renew(link)

    def _on_identified(self, fact: Identified) -> None:
        self._chronicle.identified(fact)
        link = self._links.get(fact.peer)
        if link is not None:
            link.listening = fact.addresses

    def _on_disconnected(self, fact: Disconnected) -> None:
        link = self._links.get(fact.peer)
        if link is None or link.connections.pop(fact.connection, None) is None or link.connections:
            return
        now = self._clock.monotonic()
        self._parted.set()
        self.streams.drop(link, f"the connection was lost: {fact.reason}")
        self._chronicle.disconnected(fact.peer, fact.connection, fact.reason, now - link.connected_at)
        penalty_s = max(link.refused_for_s, self._redial_max_s) if link.misbehaved else 0.0
        self.membership.disconnected(fact.peer, now, penalty_s=penalty_s)
        self._dialer.wake()
        if link.liveness is None or link.leaving:
            del self._links[fact.peer]
        self._forget_the_dead(now)

    def _on_greeted(self, link: Link, hello: Hello) -> None:
        if link.hello is None or (hello.name, hello.role) != (link.hello.name, link.hello.role):
            self._chronicle.greeted(link.peer, hello, VERSION)
        link.hello = hello
        self._refused.pop(link.peer, None)

    def _on_leaving(self, link: Link, reason: str) -> None:
        if link.leaving or not link.connections:
            return
        link.leaving = True
        self._chronicle.left(link.peer, reason)
        self.streams.drop(link, f"the peer left: {reason}")
        self._parting.disconnect(link.peer, f"the peer left: {reason}")

    def _on_usable(self, link: Link) -> None:
        self._heartbeat.begin(link)
        self.usable |= {link.peer}

    def _on_unusable(self, link: Link) -> None:
        self.usable -= {link.peer}

    def _on_change(self, link: Link, change: Change) -> None:
        reason = "no answer to heartbeats" if link.connections else "not connected"
        self._chronicle.changed(link.peer, change, reason=reason)
        if isinstance(change, ConfirmedDown) and link.connections:
            self.streams.drop(link, f"nothing was heard of the peer for {change.silent_s:.1f} s")
            self._parting.disconnect(link.peer, "confirmed down")

    def _on_idle(self, link: Link, silent_s: float) -> None:
        limit, value = "5 heartbeats", f"{silent_s:.1f} s"
        self._chronicle.refused(link.peer, link.address, rule="idle", limit=limit, value=value)
        self.streams.end_answering(link)

    def _on_fault(self, link: Link, fault: Fault) -> None:
        if isinstance(fault, PeerMisbehaved):
            self.misbehaved(link.peer, link.address, fault.rule, fault.what, farewell_s=_FAREWELL_S)
            return
        self._chronicle.refused(link.peer, link.address, rule=fault.rule, limit=fault.limit, value=fault.value)
        if fault.final:
            self._refuse(link, fault)

    def _refuse(self, link: Link, refusal: SessionRefused) -> None:
        """The two cannot work together, and trying again soon will not help."""
        link.misbehaved = True
        link.hello = None  # what it said before holds no more
        link.refused_for_s = self._refusals.offend(link.peer, self._clock.monotonic())
        if self._is_static(link.peer):
            if link.peer not in self._refused:
                log.warning("a configured peer is refused", peer=link.peer, why=refusal.what, ours=refusal.limit)
            self._refused[link.peer] = refusal
        self._parting.disconnect(link.peer, refusal.what, farewell_s=_FAREWELL_S)

    def misbehaved(self, peer: str, address: str, rule: str, detail: str, *, farewell_s: float = 0.0) -> None:
        """A peer broke a rule: record it, and cut it off for a while."""
        self._chronicle.misbehaved(peer, address, rule=rule, detail=detail)
        if self.is_connected(peer):  # else it did not prove yet who it is
            self.cut_off(peer, f"misbehaved: {rule}", farewell_s=farewell_s)

    def cut_off(self, peer: str, reason: str, *, farewell_s: float = 0.0) -> None:
        """Disconnect a peer and keep it out for a while."""
        link = self._links.get(peer)
        if link is not None:
            link.misbehaved = True
        self._parting.expel(peer, reason, farewell_s=farewell_s)

    def _forget_the_dead(self, now: float) -> None:
        for link in list(self._links.values()):
            dead = not link.connections and link.liveness is not None and link.liveness.state == "down"
            if dead and now - link.heard_before > _FORGET_S:
                del self._links[link.peer]
