"""Journals written by every version there ever was must read the same for ever.

``journal-1`` holds facts in the forms they had before their present version, and is never refreshed: nothing writes
them any more. ``journal-2`` holds every fact as it is now; ``--refresh-golden`` writes it anew, which is right as
long as no release has written the form it replaces, and otherwise calls for an upcaster and a new golden journal.
"""

import json

import msgspec
import pytest

from mesh.events.audit import seal_bytes, verify
from mesh.events.codec import decode, encode
from mesh.events.envelope import Fact, Record, UnknownFact
from mesh.events.feed import feed_genesis, sign_batch
from mesh.events.store import Head
from mesh.events.upcasts import UPCASTERS
from mesh.events.vocabulary import FACTS
from mesh.events.vocabulary.journal import JournalReceived, JournalSealed, JournalShared
from mesh.events.vocabulary.network import PeerConnected
from mesh.identity import Identity
from tests.kit import golden
from tests.kit.records import chain_of, head_of
from tests.kit.vocabulary import sample

KEY = Identity(bytes(range(32)))
REFRESH = "run `pytest tests/golden --refresh-golden`, and read the difference before you commit it"


def sealed(records: list[Record]) -> list[Record]:
    position, link = head_of(records)
    signature = KEY.sign(seal_bytes(KEY.peer_id, position, link))
    seal = JournalSealed(sealed_position=position, link=link.hex(), signature=signature.hex())
    return records + chain_of(seal, owner=KEY.peer_id, after=Head(position, link))


def signed(kind: type[Fact]) -> Fact:
    """A sample whose batch is signed by the golden journal's own node: the audit looks at that."""
    batch = sign_batch(KEY, epoch=5, first=1, origin_seq=1, prev=feed_genesis(KEY.peer_id, 5), payloads=[b"{}"])
    fact = sample(kind)
    return msgspec.structs.replace(fact, batch=batch) if isinstance(fact, JournalShared | JournalReceived) else fact


def written_now() -> list[Record]:
    facts = [signed(kind) for kind in FACTS if kind is not JournalSealed]
    return sealed(chain_of(*facts, owner=KEY.peer_id))


def flipped(record: Record) -> Record:
    return msgspec.structs.replace(record, payload=record.payload.replace(b'"originseq":', b'"originseq":1', 1))


def test_the_present_vocabulary_is_in_the_golden_journal(refresh_golden: bool) -> None:
    if refresh_golden:
        records = written_now()
        golden.save("journal-2", records)
        golden.save("tampered", [flipped(record) if record.position == 5 else record for record in records])
    assert {decode(record).type for record in golden.load("journal-2")} == {kind.type for kind in FACTS}, REFRESH
    assert golden.load("journal-2") == written_now(), f"events are written differently now: {REFRESH}"


@pytest.mark.parametrize("name", ["journal-1", "journal-2"])
def test_a_golden_journal_is_whole_and_signed(name: str) -> None:
    records = golden.load(name)
    report = verify(records, KEY.peer_id, head=head_of(records))
    assert report.ok, report
    assert report.sealed_position == len(records) - 1


@pytest.mark.parametrize("name", ["journal-1", "journal-2"])
def test_a_golden_journal_is_understood(name: str) -> None:
    events = [decode(record) for record in golden.load(name)]
    assert not [event.position for event in events if isinstance(event.fact, UnknownFact)]


def test_the_golden_journal_is_written_again_byte_for_byte() -> None:
    for record in golden.load("journal-2"):
        assert encode(decode(record)) == record


def test_a_connection_of_version_1_is_lifted_to_what_it_would_be_today() -> None:
    events = [decode(record) for record in golden.load("journal-1")]
    assert [event.fact for event in events if event.type == "peer.connected"] == [
        PeerConnected(
            peer="12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3",
            connection="c-1",
            address=address,
            transport=transport,
            direction="outbound",
            security="/noise",
            muxer="/yamux/1.0.0",
            setup_ms=9.25,
        )
        for address, transport in [
            ("/ip4/192.0.2.7/tcp/4701/p2p/12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3", "tcp"),
            ("/ip4/192.0.2.7/tcp/4702/ws", "ws"),
            ("/ip4/192.0.2.7/udp/4703/quic-v1", "quic-v1"),
        ]
    ]


def test_every_upcaster_is_exercised_by_a_golden_journal() -> None:
    schemas = [json.loads(record.payload)["dataschema"] for record in golden.load("journal-1")]
    read = {(kind, int(version)) for _, _, kind, version in (schema.split(":") for schema in schemas)}
    assert set(UPCASTERS) <= read


def test_the_tampered_journal_fails_where_it_was_touched() -> None:
    report = verify(golden.load("tampered"), KEY.peer_id)
    assert [(finding.position, finding.kind) for finding in report.findings] == [(5, "changed")]
