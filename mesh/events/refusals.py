"""What it means when JetStream does not take an event, and what can be done about it. Pure."""

from mesh.errors import JournalError
from mesh.events.publishing import Refusal

WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_NO_STORAGE = frozenset({10047, 10023})
_TOO_LARGE = 10054


def is_final(refusal: Refusal, complaint: str = "") -> bool:
    """Whether trying again is useless until somebody does something.

    ``complaint`` is what the server's log last complained of: nats-server gives no answer for the event that it
    could not write, and says of those after it that their sequence is wrong.
    """
    text = f"{refusal.description} {complaint}".lower()
    return (
        refusal.err_code in _NO_STORAGE
        or refusal.err_code == _TOO_LARGE
        or "maximum bytes" in text
        or "no space left" in text
    )


def explain(refusal: Refusal, *, max_bytes: int, backlog: int, complaint: str = "") -> JournalError:
    """The error for the node's owner: which limit, its value, the remedy."""
    text = complaint or refusal.description
    lost = f"{backlog} event(s) are not stored"
    if "maximum bytes" in text:
        return JournalError(
            f"the journal has reached its limit of {max_bytes} bytes (broker.max_bytes); {lost}",
            remedy="Raise `max_bytes` in [broker], or set it to 0 for no limit.",
        )
    if "no space left" in text.lower() or refusal.err_code in _NO_STORAGE:
        return JournalError(
            f"the disk of the event store is full ({text}); {lost}",
            remedy="Free space there, then start the node again: nothing that was acknowledged is lost.",
        )
    return JournalError(
        f"JetStream does not take events: {text or 'no answer'} (error {refusal.err_code or refusal.code}); {lost}",
        remedy="Look into the log of nats-server, then start the node again.",
    )
