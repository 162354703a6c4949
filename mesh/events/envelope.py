"""The envelope around every fact: CloudEvents 1.0 attributes, who saw it, and its place in the journal."""

from typing import ClassVar

import msgspec

from mesh.clock import unix_seconds


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened, in the past tense. Each kind of fact is one subclass, defined once.

    Subclasses set ``type`` (``family.fact``, the tail of the NATS subject) and raise ``version`` when their
    fields change meaning; `mesh.events.upcasts` brings older versions forward. They hold no reference cycles, so
    the garbage collector need not look at them (``gc=False``, inherited).
    """

    type: ClassVar[str]
    version: ClassVar[int] = 1


class UnknownFact(Fact, frozen=True, kw_only=True):
    """A fact of a type or version that this release does not know: kept, chained, and folded by nobody."""

    type: ClassVar[str] = ""
    known_as: str
    known_version: int
    body: msgspec.Raw


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One immutable entry of a journal.

    ``position`` is its place in *this* journal (1, 2, 3 …, equal to the JetStream sequence) and ``prev`` the
    chain hash of the entry before it. All else is fixed by the node that ``origin`` names and is
    byte-identical in every journal that holds the event: ``origin_seq`` counts the origin's own events.
    ``subject`` is the entity that it is about (a PeerId, a request, an alert), ``correlation`` the request or
    episode that it belongs to, ``causation`` the id of the event that led to it; each may be empty.
    """

    position: int
    prev: bytes
    id: str
    time: str
    origin: str
    origin_seq: int
    subject: str
    correlation: str
    causation: str
    fact: Fact

    @property
    def at(self) -> float:
        """``time`` in Unix seconds."""
        return unix_seconds(self.time)

    @property
    def type(self) -> str:
        """``family.fact``, for example ``request.routed``."""
        return self.fact.known_as if isinstance(self.fact, UnknownFact) else self.fact.type


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event as it is stored: the exact bytes that are published, hashed and never re-encoded."""

    position: int
    prev: bytes
    id: str
    subject: str
    payload: bytes
