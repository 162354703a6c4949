"""Identifiers of events and requests."""

from uuid_utils import uuid7


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique everywhere, and sorted by the time it was made."""
    return str(uuid7())
