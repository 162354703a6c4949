"""One beat for all peers: pings them, looks who has been silent for too long, and whether we are fit to judge."""

from collections.abc import Callable, Mapping

from mesh.clock import Clock
from mesh.p2p import messages
from mesh.p2p.hearing import Hearing
from mesh.p2p.link import Link
from mesh.p2p.liveness import Change, Liveness, LocalHealth

_TICKS_PER_BEAT = 4
# Who pings, and was pinged so lately, leaves the next beat to the other: one ping for each beat tells both enough.
_TAKING_TURNS_BEATS = 2.5
# Two that ping at the same moment would go on so: the one with the greater PeerId waits for longer.
_YIELD_BEATS = 1.5
# But a round trip is measured at least every so many beats.
_OWN_BEATS = 4
# When somebody has not been heard of for so many beats, it may be us: suspicion begins after more than two.
_DOUBT_BEATS = 1.25
# An opener that sends nothing for this many of its own heartbeats (and this many seconds) has left its stream open.
_IDLE_BEATS = 5
_IDLE_S = 10.0


class Heartbeat:
    """Beats every ``interval_s``; ``on_change(link, change)`` hears what is thought of a peer when that changes.

    ``on_idle(link)`` is told of streams on which the peer has stopped to say anything.
    """

    def __init__(
        self,
        links: Mapping[str, Link],
        clock: Clock,
        interval_s: float,
        *,
        hearing: Hearing,
        on_change: Callable[[Link, Change], None],
        on_idle: Callable[[Link, float], None],
        us: str = "",
    ) -> None:
        self._links = links
        self._clock = clock
        self._interval_s = interval_s
        self._hearing = hearing
        self._on_change = on_change
        self._listening_since = float("-inf")
        self._on_idle = on_idle
        self._us = us

    def begin(self, link: Link) -> None:
        """A stream became usable: the peer is watched from now on, and pinged at the next tick."""
        now = self._clock.monotonic()
        link.heartbeats.forget_pending()
        link.next_ping = now
        link.asked_at = now
        if link.liveness is None:
            link.liveness = Liveness(self._interval_s, now)

    def on_pong(self, link: Link, sequence: int, asked: float, answered: float) -> None:
        """A ping was answered."""
        now = self._clock.monotonic()
        if link.heartbeats.answer(sequence, now, asked=asked, answered=answered) and link.liveness is not None:
            self._tell(link, link.liveness.beat(now))

    def on_ping(self, link: Link) -> None:
        """The peer pinged: as good a beat as an answer to ours, so that ours can wait for its turn."""
        link.pinged_at = now = self._clock.monotonic()
        at_once = now - link.asked_at < self._interval_s / _TICKS_PER_BEAT
        wait = self._interval_s * (_YIELD_BEATS if at_once and self._us > link.peer else 1.0)
        link.next_ping = min(now + wait, link.asked_at + _OWN_BEATS * self._interval_s)
        if link.liveness is not None:
            self._tell(link, link.liveness.beat(now))

    async def run(self) -> None:
        """Beat, for ever."""
        tick_s = self._interval_s / _TICKS_PER_BEAT
        now = self._clock.monotonic()
        ourselves = LocalHealth(tick_s, now)
        while True:
            await self._clock.sleep(tick_s)
            before, now = now, self._clock.monotonic()
            lost = ourselves.tick(now)
            if self._hearing.is_deaf(in_doubt=self._in_doubt(now)):
                for link in self._links.values():
                    link.heartbeats.excuse(now - before)
            if lost:
                self._listening_since = now
            self._hear_of_unread(now)
            late_s = self._hearing.late_s(now)
            for link in list(self._links.values()):
                self._look_at(link, now, lost, late_s)

    def _hear_of_unread(self, now: float) -> None:
        """Whoever waits to be read is alive, whatever it says."""
        for peer in self._hearing.take_unread():
            link = self._links.get(peer)
            if link is not None and link.liveness is not None:
                link.unread_at = now
                self._tell(link, link.liveness.heard(now))

    def _in_doubt(self, now: float) -> bool:
        """Whether somebody is silent who was not before."""
        watched = (link for link in self._links.values() if link.liveness is not None and link.liveness.state != "down")
        oldest = min((link.heard_at or link.heard_before for link in watched), default=now)
        return now - oldest > _DOUBT_BEATS * self._interval_s

    def _look_at(self, link: Link, now: float, lost: float, late_s: float) -> None:
        if link.liveness is not None:
            if lost:
                link.liveness.excuse(lost, now)
                link.heartbeats.excuse(lost)
            heard_at = link.heard_at
            if heard_at is not None and heard_at > link.heard_before:
                link.heard_before = heard_at
                self._tell(link, link.liveness.heard(heard_at))
            self._tell(link, link.liveness.check(now, late_s))
        if link.calling is not None and link.asking is not None and now >= link.next_ping:
            turns = 2 if now - link.pinged_at <= _TAKING_TURNS_BEATS * self._interval_s else 1
            link.asked_at, link.next_ping = now, now + turns * self._interval_s
            sequence = link.heartbeats.send(now)
            link.asking.wire.put(messages.ping(sequence, int(self._clock.now() * 1e6)))
        if not lost:
            self._look_for_idle(link, now, late_s)

    def _look_for_idle(self, link: Link, now: float, late_s: float) -> None:
        session = link.answering
        if session is None or session.hello is None:
            return
        silent_s = now - late_s - max(session.wire.heard_at, link.unread_at, self._listening_since)
        if silent_s > max(_IDLE_S, _IDLE_BEATS * session.hello.heartbeat_ms / 1000):
            self._on_idle(link, silent_s)
        elif session.end is not None:
            session.end.give_up_stalled()

    def _tell(self, link: Link, change: Change | None) -> None:
        if change is not None:
            self._on_change(link, change)
