"""All that this node has with one peer: connections, the stream for its own calls, the one it answers on."""

import asyncio

from mesh.p2p.calling import Calling
from mesh.p2p.link_stats import Heartbeats, LinkStats
from mesh.p2p.liveness import Liveness
from mesh.p2p.messages import Hello
from mesh.p2p.serving import Serving
from mesh.p2p.session import Session


class Link:
    """State of one peer; `mesh.p2p.links` changes it."""

    def __init__(self, peer: str, heartbeat_s: float, now: float) -> None:
        self.peer = peer
        self.hello: Hello | None = None  # the last that it said
        self.address = ""
        self.proved: tuple[str, ...] = ()  # where it was dialled with success
        self.listening: tuple[str, ...] = ()  # where it says that it listens
        self.connections: dict[str, float] = {}  # when each came up, monotonic
        self.connected_at = now
        self.misbehaved = False
        self.refused_for_s = 0.0  # how long it is not dialled for having been refused for good
        self.leaving = False
        self.liveness: Liveness | None = None  # from the first hello on
        self.heartbeats = Heartbeats(heartbeat_s)
        self.next_ping = self.asked_at = now  # of our pings
        self.pinged_at = float("-inf")  # by the peer
        self.heard_before = now
        self.unread_at = float("-inf")  # when something of the peer last waited for our own overlay
        self.keeper: asyncio.Task[None] | None = None
        self.renewal = asyncio.Event()
        self.asking: Session[Calling] | None = None
        self.answerer: asyncio.Task[None] | None = None
        self.answering: Session[Serving] | None = None
        self._ended_in = 0
        self._ended_out = 0
        self._read_in = 0
        self._read_out = 0
        self._read_at = now

    @property
    def calling(self) -> Calling | None:
        """What makes calls to the peer; None while there is no usable stream."""
        return self.asking.end if self.asking is not None and self.asking.usable else None

    def ended(self, session: Session[Calling] | Session[Serving]) -> None:
        """Keep the bytes that a stream carried."""
        self._ended_in += session.wire.bytes_in
        self._ended_out += session.wire.bytes_out

    @property
    def in_flight(self) -> int:
        """Calls that are under way, both ours and theirs."""
        ours = self.calling.in_flight if self.calling is not None else 0
        end = self.answering.end if self.answering is not None else None
        return ours + (end.in_flight if end is not None else 0)

    @property
    def heard_at(self) -> float | None:
        """When the last frame arrived, on either stream; None without a stream."""
        times = [session.wire.heard_at for session in self.sessions if session.usable]
        return max(times, default=None)

    @property
    def sessions(self) -> list[Session[Calling] | Session[Serving]]:
        """The streams that there are."""
        return [session for session in (self.asking, self.answering) if session is not None]

    def read_stats(self, now: float) -> LinkStats:
        """The figures since the last reading."""
        bytes_in = self._ended_in + sum(session.wire.bytes_in for session in self.sessions)
        bytes_out = self._ended_out + sum(session.wire.bytes_out for session in self.sessions)
        beats, calling = self.heartbeats, self.calling
        stats = LinkStats(
            latency_ms=beats.latency_s * 1000 if beats.latency_s >= 0 else -1.0,
            jitter_ms=beats.jitter_s * 1000 if beats.jitter_s >= 0 else -1.0,
            loss=beats.loss,
            clock_skew_ms=beats.clock_skew_s * 1000,
            bytes_in=bytes_in - self._read_in,
            bytes_out=bytes_out - self._read_out,
            since_s=now - self._read_at,
            in_flight=calling.in_flight if calling is not None else 0,
            bytes_saved=sum(session.wire.bytes_saved for session in self.sessions),
        )
        self._read_in, self._read_out, self._read_at = bytes_in, bytes_out, now
        return stats
