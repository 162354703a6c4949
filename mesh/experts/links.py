"""What the connection to a peer costs a request, from the last health sample of it. Pure.

Throughput is what was carried, not what could be: an idle connection shows little. It is shown and not weighed.
"""

import msgspec

# A connection younger than this may be one of many that come and go: until then it counts a little less.
SETTLING_S = 10.0
NEW_LINK = 0.9
MIN_DELIVERY = 0.05


class Link(msgspec.Struct):
    """The connection to a peer, up since ``since`` (Unix seconds). -1: not measured since it came up.

    Round trip and its variation are the heartbeat's, ``loss`` (0..1) the share of heartbeats that were not answered.
    """

    since: float = 0.0
    rtt_ms: float = -1.0
    jitter_ms: float = -1.0
    loss: float = -1.0
    throughput_bytes_s: float = -1.0


class LinkQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What policies see of a connection: `Link` with its age when the decision was made; -1: not known."""

    rtt_ms: float = -1.0
    jitter_ms: float = -1.0
    loss: float = -1.0
    throughput_bytes_s: float = -1.0
    age_s: float = -1.0


HERE = LinkQuality(rtt_ms=0.0, jitter_ms=0.0, loss=0.0)


def quality_at(link: Link, now: float) -> LinkQuality:
    """The connection as a decision at ``now`` sees it."""
    return LinkQuality(
        rtt_ms=round(link.rtt_ms, 3),
        jitter_ms=round(link.jitter_ms, 3),
        loss=round(link.loss, 6),
        throughput_bytes_s=round(link.throughput_bytes_s, 3),
        age_s=round(max(0.0, now - link.since), 3) if link.since else -1.0,
    )


def delivery(link: LinkQuality) -> float:
    """What is left of a candidate's merit after its connection, 0.05 to 1.

    ``(1 − loss)²``: the request and its answer both have to get through; times 0.9 for a new connection, rising to
    1 within 10 s. What is not known does not count.
    """
    through = 1.0 - min(1.0, max(0.0, link.loss))
    settled = 1.0 if link.age_s < 0 else NEW_LINK + (1.0 - NEW_LINK) * min(1.0, link.age_s / SETTLING_S)
    return max(MIN_DELIVERY, through * through * settled)


def delay_ms(link: LinkQuality) -> float:
    """The round trip; 0 where it is not known."""
    return max(0.0, link.rtt_ms)


def wobble_ms(link: LinkQuality) -> float:
    """How much longer than usual a round trip may take; 0 where it is not known."""
    return max(0.0, link.jitter_ms)
