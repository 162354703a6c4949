"""Every event survives the journal byte for byte, and no bytes whatever can do more than be refused."""

import contextlib
import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.clock import rfc3339, unix_seconds
from mesh.events.codec import decode, decode_payload, encode
from mesh.events.envelope import Event, Fact, Record, UnknownFact
from mesh.events.stored import headers_of, to_record
from mesh.events.vocabulary import FACTS
from tests.kit.golden import load
from tests.kit.records import OWNER
from tests.kit.vocabulary import any_fact, sample

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def event_of(fact: Fact, **parts: object) -> Event:
    envelope: dict[str, object] = {
        "position": 7,
        "prev": b"\3" * 32,
        "id": "01990000-0000-7000-8000-000000000007",
        "time": "2026-01-01T00:00:00.000000Z",
        "origin": OWNER,
        "origin_seq": 5,
        "subject": "",
        "correlation": "",
        "causation": "",
    }
    return Event(fact=fact, **{**envelope, **parts})


@pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.type)
@given(data=st.data(), subject=TEXT, correlation=TEXT, causation=TEXT)
def test_every_fact_round_trips(
    kind: type[Fact], data: st.DataObject, subject: str, correlation: str, causation: str
) -> None:
    event = event_of(data.draw(any_fact(kind)), subject=subject, correlation=correlation, causation=causation)
    record = encode(event)
    assert decode(record) == event
    assert decode_payload(record.position, record.prev, record.payload) == event
    assert encode(decode(record)) == record


@pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.type)
def test_a_record_survives_its_headers(kind: type[Fact]) -> None:
    record = encode(event_of(sample(kind)))
    headers = f"{headers_of(record)}Nats-Expected-Last-Sequence: 6\r\n\r\n".encode()
    assert to_record(record.position, record.subject.encode(), headers, record.payload) == record


@pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.type)
def test_a_payload_is_cloudevents_in_json(kind: type[Fact]) -> None:
    payload = json.loads(encode(event_of(sample(kind))).payload)
    assert payload["specversion"] == "1.0"
    assert payload["datacontenttype"] == "application/json"
    assert payload["type"] == f"mesh.{kind.type}"
    assert payload["dataschema"] == f"urn:mesh:{kind.type}:{kind.version}"
    assert {name for name in payload if not name.isalnum() or name != name.lower()} == set()


@given(st.binary(max_size=400))
def test_any_bytes_are_an_event_or_a_value_error(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode_payload(1, b"", payload)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_bottomless_payload_is_a_value_error(opening: str, closing: str) -> None:
    payload = json.loads(encode(event_of(sample(FACTS[0]))).payload) | {"data": "X"}
    text = json.dumps(payload).replace('"X"', opening * 100_000 + "1" + closing * 100_000)
    with pytest.raises(ValueError, match="deep"):
        decode_payload(1, b"", text.encode())


def decoded(record: Record) -> Event | None:
    """By the fact that the subject names; None for a ValueError."""
    try:
        return decode(record)
    except ValueError:
        return None


def decoded_in_two_steps(record: Record) -> Event | None:
    """Envelope first, then the fact that it names."""
    try:
        return decode_payload(record.position, record.prev, record.payload)
    except ValueError:
        return None


@given(kind=st.sampled_from(FACTS), other=st.sampled_from(FACTS))
def test_the_subject_says_what_to_expect_and_never_what_it_is(kind: type[Fact], other: type[Fact]) -> None:
    event = event_of(sample(kind))
    for subject in ("", "mesh.event", "mesh.event.p.no.such", f"mesh.event.p.{other.type}"):
        assert decode(msgspec.structs.replace(encode(event), subject=subject)) == event


@pytest.mark.parametrize("name", ["history", "journal-1", "journal-2", "tampered"])
def test_every_golden_record_is_the_same_event_in_one_step_and_in_two(name: str) -> None:
    for record in load(name):
        assert decoded(record) == decoded_in_two_steps(record)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(
    kind=st.sampled_from([kind.type for kind in FACTS]),
    version=st.integers(min_value=0, max_value=4).map(str) | TEXT,
    body=JSON,
)
def test_any_body_of_any_version_is_an_event_or_a_value_error(kind: str, version: str, body: object) -> None:
    payload = json.loads(encode(event_of(sample(FACTS[0]))).payload)
    payload |= {"type": f"mesh.{kind}", "dataschema": f"urn:mesh:{kind}:{version}", "data": body}
    record = Record(1, b"", "", f"mesh.event.p.{kind}", json.dumps(payload).encode())
    assert decoded(record) == decoded_in_two_steps(record)


@given(kind=st.sampled_from(FACTS), at=st.floats(0, 1), put=st.binary(max_size=3), cut=st.integers(0, 3))
def test_damaged_bytes_are_the_same_event_or_none_in_one_step_and_in_two(
    kind: type[Fact], at: float, put: bytes, cut: int
) -> None:
    record = encode(event_of(sample(kind)))
    place = int(at * len(record.payload))
    damaged = record.payload[:place] + put + record.payload[place + cut :]
    record = msgspec.structs.replace(record, payload=damaged)
    assert decoded(record) == decoded_in_two_steps(record)


def test_what_a_later_release_wrote_is_kept_as_it_is() -> None:
    record = encode(event_of(sample(FACTS[0])))
    later = msgspec.structs.replace(record, payload=record.payload.replace(b":1", b":9", 1))
    fact = decode(later).fact
    assert isinstance(fact, UnknownFact)
    assert (fact.known_as, fact.known_version) == (FACTS[0].type, 9)
    assert decode(later).type == FACTS[0].type


@given(headers=st.binary(max_size=200))
def test_any_headers_make_a_record(headers: bytes) -> None:
    assert isinstance(to_record(1, b"s", headers, b"p"), Record)


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_a_timestamp_is_its_microsecond(microseconds: int) -> None:
    text = rfc3339(microseconds / 1_000_000)
    assert len(text) == len("2026-01-01T00:00:00.000000Z")
    assert round(unix_seconds(text) * 1_000_000) == microseconds


@given(
    st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat(timespec="microseconds")[:26] + "Z"),
    st.integers(0, 26),
    st.sampled_from("0129:.-TZ+ \N{SUPERSCRIPT TWO}\N{ARABIC-INDIC DIGIT ONE}"),
)
def test_a_bent_timestamp_is_what_the_library_says(text: str, place: int, put: str) -> None:
    for timestamp in (text, text[:place] + put + text[place + 1 :]):
        try:
            expected = datetime.fromisoformat(timestamp)
        except ValueError:
            expected = None
        if expected is None or expected.tzinfo is None:
            with pytest.raises(ValueError, match=r"nvalid|must be|out of range|offset|month|hour"):
                unix_seconds(timestamp)
        else:
            assert unix_seconds(timestamp) == expected.timestamp()
