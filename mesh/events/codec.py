"""Events to bytes and back: CloudEvents 1.0 in JSON, structured mode.

The payload holds what the origin fixed; ``position`` and ``prev`` belong to the journal that stores it and
travel beside the payload (NATS headers), so that the payload is byte-identical in every journal.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from mesh.errors import JournalError
from mesh.events.envelope import Event, Fact, Record, UnknownFact
from mesh.events.subjects import fact_type_in, subject_of
from mesh.events.upcasts import upcast
from mesh.events.vocabulary import FACTS

TYPE_PREFIX = "mesh."
SCHEMA_PREFIX = "urn:mesh:"
# Large payloads do not belong in an event: JetStream holds them, but every reader pays.
MAX_PAYLOAD_BYTES = 512 * 1024


Body = TypeVar("Body")


class _Payload(msgspec.Struct, Generic[Body], frozen=True, kw_only=True, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    time: str
    dataschema: str
    datacontenttype: str = "application/json"
    subject: str = ""
    originseq: int
    correlationid: str = ""
    causationid: str = ""
    data: Body


_encode = msgspec.json.Encoder().encode
_decode_payload = msgspec.json.Decoder(_Payload[msgspec.Raw]).decode
_decode_body = {fact.type: msgspec.json.Decoder(fact).decode for fact in FACTS}
_facts = {fact.type: fact for fact in FACTS}
_type_names = {
    fact: (fact.type, TYPE_PREFIX + fact.type, f"{SCHEMA_PREFIX}{fact.type}:{fact.version}") for fact in FACTS
}


class _Kind(NamedTuple):
    """How payloads that hold a current fact of one type are decoded at once, and what these then say of themselves."""

    decode: Callable[[bytes], _Payload[Any]]
    type_name: str
    schema: str


@lru_cache(maxsize=1024)
def _kind_on(subject: str) -> _Kind | None:
    fact = _facts.get(fact_type_in(subject))
    return None if fact is None else _kind(fact)


@cache
def _kind(fact: type[Fact]) -> _Kind:
    return _Kind(msgspec.json.Decoder(_Payload[fact]).decode, *_type_names[fact][1:])  # type: ignore[valid-type]


def encode(event: Event) -> Record:
    """The stored form of an event. Raises JournalError when it is larger than MAX_PAYLOAD_BYTES."""
    fact_type, type_name, schema = _type_names[type(event.fact)]
    payload = _encode(
        _Payload(
            specversion="1.0",
            id=event.id,
            source="/mesh/" + event.origin,
            type=type_name,
            time=event.time,
            dataschema=schema,
            subject=event.subject,
            originseq=event.origin_seq,
            correlationid=event.correlation,
            causationid=event.causation,
            data=event.fact,
        )
    )
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise JournalError(
            f"a {fact_type} event of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}",
            remedy="Record a digest or a reference instead of the content.",
        )
    return Record(event.position, event.prev, event.id, subject_of(event.origin, fact_type), payload)


def decode(record: Record) -> Event:
    """The event in a stored record, lifted to the current version of its fact.

    Raises ValueError (msgspec.DecodeError and ValidationError are ValueErrors) when the payload is not one, whatever
    bytes it may be. The subject says what to expect, and only the payload what it is.
    """
    kind = _kind_on(record.subject)
    if kind is not None:
        try:
            parts = kind.decode(record.payload)
        except (ValueError, RecursionError):  # another version, or damaged: the longer way tells
            return decode_payload(record.position, record.prev, record.payload)
        if parts.dataschema == kind.schema and parts.type == kind.type_name:
            return _event(record.position, record.prev, parts, parts.data)
    return decode_payload(record.position, record.prev, record.payload)


def decode_payload(position: int, prev: bytes, payload: bytes) -> Event:
    """`decode`, for a reader that has the parts and no record."""
    try:
        parts = _decode_payload(payload)
        fact = _decode_fact(parts.type.removeprefix(TYPE_PREFIX), parts.dataschema, parts.data)
    except RecursionError as error:
        raise ValueError("the payload is nested too deeply") from error
    return _event(position, prev, parts, fact)


def _event(position: int, prev: bytes, parts: _Payload[Any], fact: Fact) -> Event:
    return Event(
        position=position,
        prev=prev,
        id=parts.id,
        time=parts.time,
        origin=parts.source.removeprefix("/mesh/"),
        origin_seq=parts.originseq,
        subject=parts.subject,
        correlation=parts.correlationid,
        causation=parts.causationid,
        fact=fact,
    )


def _decode_fact(fact_type: str, schema: str, body: msgspec.Raw) -> Fact:
    known = _facts.get(fact_type)
    if known is not None and schema == _type_names[known][2]:
        return _decode_body[fact_type](body)
    version = _schema_version(schema)
    if known is None or version > known.version:
        return UnknownFact(known_as=fact_type, known_version=version, body=body)
    try:
        return msgspec.convert(upcast(fact_type, version, known.version, msgspec.json.decode(body)), known)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"a {fact_type} of version {version} cannot be lifted: {error!r}") from error


def _schema_version(schema: str) -> int:
    _, _, version = schema.rpartition(":")
    if not schema.startswith(SCHEMA_PREFIX) or not version.isdigit():
        raise ValueError(f"dataschema {schema!r} is not {SCHEMA_PREFIX}<type>:<version>")
    return int(version)
