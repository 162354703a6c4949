"""Events by hand, for tests that fold them without a journal."""

from collections.abc import Iterable

from mesh.clock import rfc3339
from mesh.events.chain import HASH_BYTES
from mesh.events.envelope import Event, Fact

EPOCH = 1_760_000_000.0


def history(origin: str, facts: Iterable[Fact | tuple[float, Fact]]) -> list[Event]:
    """The facts as a journal of ``origin``, a second apart, or each at its own second where one is given."""
    events: list[Event] = []
    at = 0.0
    for entry in facts:
        at, fact = entry if isinstance(entry, tuple) else (at + 1.0, entry)
        request = getattr(fact, "request", "")
        events.append(
            Event(
                position=len(events) + 1,
                prev=bytes(HASH_BYTES),
                id=f"event-{len(events) + 1}",
                time=rfc3339(EPOCH + at),
                origin=origin,
                origin_seq=len(events) + 1,
                subject=request,
                correlation=request,
                causation="",
                fact=fact,
            )
        )
    return events
