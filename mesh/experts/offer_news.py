"""When an offer is worth an event: not every time it is heard. Pure."""

from mesh.events.vocabulary.experts import ExpertOffered
from mesh.experts.known import Offer

# Load is news when it moved by this share of what the expert can hold.
LOAD_STEP = 0.2


def is_news(known: Offer | None, heard: ExpertOffered, now: float) -> bool:
    """Whether what is heard is new, differs in what matters, or must be recorded again to stay valid."""
    if known is None:
        return True
    return _differs(known, heard) or _load_moved(known, heard) or _half_over(known, now)


def _differs(known: Offer, heard: ExpertOffered) -> bool:
    return (
        known.model != heard.model
        or known.domains != tuple(heard.domains)
        or known.concurrency != heard.concurrency
        or known.queue_limit != heard.queue_limit
        or known.available != heard.available
        or known.quality != heard.quality
        or known.features != tuple(heard.features)
        or known.price != heard.price
    )


def _load_moved(known: Offer, heard: ExpertOffered) -> bool:
    before, after = known.in_flight + known.queued, heard.in_flight + heard.queued
    room = heard.concurrency + heard.queue_limit
    became_idle = before > 0 and after == 0
    became_busy = (before >= heard.concurrency) != (after >= heard.concurrency)
    return became_idle or became_busy or abs(after - before) >= LOAD_STEP * room


def _half_over(known: Offer, now: float) -> bool:
    return known.expires_at > 0 and now >= (known.offered_at + known.expires_at) / 2
