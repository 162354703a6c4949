"""What one entry of a feed may be: a stranger's event, before anything else sees it. Pure.

The rules are as strict as the strictest reader of a journal: JSON numbers that every language reads exactly, texts
that every database takes, times that can be reckoned with.
"""

import re
from typing import Any

import msgspec

from mesh.clock import unix_seconds
from mesh.events.codec import decode_payload
from mesh.events.envelope import Event
from mesh.events.feed import MAX_EVENT_BYTES, MAX_NUMBER
from mesh.events.vocabulary.experts import ExpertOffered
from mesh.p2p.sharing.policy import may_be_shared

MAX_TEXT_BYTES = 512
MAX_DEPTH = 8
MAX_VALID_S = 86_400.0
_BEGINS = re.compile(rb'\{"specversion":"1\.0","id":"[0-9A-Za-z-]{1,64}",')
_TIME = re.compile(r"2[01]\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class BadEntry(ValueError):
    """It may not be in a feed; who signed it should have known."""


def check_entry(origin: str, payload: bytes, after: int) -> Event:
    """The event of ``origin`` in ``payload``; its ``origin_seq`` lies beyond ``after``. Raises BadEntry."""
    if len(payload) > MAX_EVENT_BYTES:
        raise BadEntry(f"an event of {len(payload)} bytes; the limit is {MAX_EVENT_BYTES}")
    if not _BEGINS.match(payload):
        raise BadEntry("it does not begin as an event does")
    try:
        event = decode_payload(0, b"", payload)
        _check_value(msgspec.json.decode(payload), MAX_DEPTH)
    except ValueError as error:
        raise BadEntry(f"it is no event: {error}") from None
    _check_event(event, origin, after)
    return event


def _check_event(event: Event, origin: str, after: int) -> None:
    if event.origin != origin:
        raise BadEntry(f"it is of {event.origin[:80]!r}")
    if not after < event.origin_seq <= MAX_NUMBER:
        raise BadEntry(f"its origin_seq {event.origin_seq} does not lie beyond {after}")
    if not may_be_shared(event.type):
        raise BadEntry(f"facts of the type {event.type[:80]!r} are not shared")
    if not _TIME.fullmatch(event.time):
        raise BadEntry(f"its time {event.time[:40]!r} is none")
    try:
        unix_seconds(event.time)
    except ValueError as error:
        raise BadEntry(f"its time is none: {error}") from None
    if isinstance(event.fact, ExpertOffered) and not 0 < event.fact.valid_s <= MAX_VALID_S:
        raise BadEntry(f"an offer that is valid for {event.fact.valid_s} s; the limit is {MAX_VALID_S:g}")


def _check_value(value: Any, depth: int) -> None:  # noqa: ANN401 - any JSON
    if not depth:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        if "\0" in value or len(value.encode()) > MAX_TEXT_BYTES:
            raise ValueError(f"a text with a NUL, or of more than {MAX_TEXT_BYTES} bytes")
    elif isinstance(value, int | float):
        if abs(value) > MAX_NUMBER:
            raise ValueError(f"the number {value:g} is out of range" if isinstance(value, float) else "a huge number")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_value(key, depth)
            _check_value(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_value(inner, depth - 1)
