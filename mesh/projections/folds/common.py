"""What several folds need."""

from datetime import datetime, timedelta

from mesh.events.envelope import Event


def measured(value: float) -> float | None:
    """Events write -1 where nothing was measured; tables write NULL."""
    return None if value < 0 else value


def counted(value: int) -> int | None:
    """`measured`, of something that is counted."""
    return None if value < 0 else value


def own_subject(event: Event) -> str:
    """The PeerId that an event about a node is about: its subject, or its origin where it names none."""
    return event.subject or event.origin


def later(time: str, seconds: float) -> str:
    """The RFC 3339 time ``seconds`` after ``time``, as precise and as wide as `mesh.clock.rfc3339`."""
    moment = datetime.fromisoformat(time) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"
