"""What is on its way to the store, and how it is put on the wire."""

import re

import pytest

from mesh.events.outbox import Outbox, size_of, written
from mesh.events.publishing import (
    ACK_EVERY,
    MAX_BATCH,
    WINDOW,
    Acknowledgement,
    Batched,
    Pipelined,
    Refusal,
    publisher_for,
    read_acknowledgement,
)
from mesh.events.refusals import explain, is_final
from mesh.events.waiters import Waiters
from tests.kit.facts import stopped
from tests.kit.records import chain_of, head_of, some

REPLY = "_INBOX.token.a.3."


def filled(count: int) -> Outbox:
    outbox = Outbox()
    for record in some(count):
        outbox.add(record)
    return outbox


def test_records_leave_in_order_and_are_counted() -> None:
    records, outbox = some(5), filled(5)
    assert outbox.take(3) == records[:3]
    assert (outbox.given, outbox.stored, outbox.in_flight) == (5, 0, 3)
    outbox.acknowledge(2)
    assert (outbox.stored, outbox.in_flight) == (2, 1)
    assert outbox.take(10) == records[3:]
    outbox.acknowledge(5)
    assert (outbox.stored, outbox.in_flight, outbox.bytes) == (5, 0, 0)


def test_what_was_sent_and_not_acknowledged_goes_out_again_first() -> None:
    records, outbox = some(5), filled(5)
    outbox.take(4)
    outbox.acknowledge(1)
    outbox.requeue()
    assert outbox.in_flight == 0
    assert outbox.take(10) == records[1:]


def test_an_old_acknowledgement_changes_nothing() -> None:
    outbox = filled(3)
    outbox.take(3)
    outbox.acknowledge(2)
    outbox.acknowledge(1)
    assert (outbox.stored, outbox.in_flight) == (2, 1)


def test_large_records_are_in_flight_only_a_few_at_a_time() -> None:
    outbox = Outbox()
    for record in chain_of(*(stopped("x" * 500_000) for _ in range(40))):
        outbox.add(record)
    assert len(outbox.take(1000)) == 17
    assert outbox.take(1000) == []
    outbox.acknowledge(10)
    assert len(outbox.take(1000)) == 10


def test_what_we_have_put_at_a_position_is_known_from_the_last_stored_one_on() -> None:
    before = some(3)
    outbox = Outbox(3, before[-1])
    records = some(3, after=head_of(before))
    for record in records:
        outbox.add(record)
    outbox.take(2)
    assert outbox.written_at(3) == written(before[-1])
    assert outbox.written_at(4) == written(records[0])
    assert outbox.written_at(5) == written(records[1])
    assert outbox.written_at(6) is None, "it was never sent"
    assert outbox.written_at(2) is None
    outbox.acknowledge(4)
    assert outbox.written_at(4) == written(records[0])


def test_bytes_are_those_of_all_that_is_not_acknowledged() -> None:
    outbox = filled(3)
    assert outbox.bytes == sum(size_of(record) for record in some(3))


def published(data: bytes) -> list[tuple[str, str, dict[str, str]]]:
    """Subject, reply and headers of each HPUB."""
    found = re.finditer(rb"HPUB (\S+) (?:(\S+) )?(\d+) (\d+)\r\n(NATS/1\.0\r\n(?:[^\r]+\r\n)*\r\n)", data)
    messages = []
    for match in found:
        subject, reply, size, _, headers = match.groups(b"")
        assert int(size) == len(headers)
        lines = headers.decode().split("\r\n")[1:-2]
        messages.append((subject.decode(), reply.decode(), dict(line.split(": ", 1) for line in lines)))
    return messages


def test_the_pipeline_states_where_each_event_belongs_and_asks_for_few_acknowledgements() -> None:
    records = some(ACK_EVERY + 10)
    messages = published(Pipelined().encode(records, REPLY))
    assert [headers["Nats-Expected-Last-Sequence"] for _, _, headers in messages] == [
        str(record.position - 1) for record in records
    ]
    assert [headers["Mesh-Position"] for _, _, headers in messages] == [str(record.position) for record in records]
    assert [reply for _, reply, _ in messages if reply] == [f"{REPLY}{ACK_EVERY}", f"{REPLY}{ACK_EVERY + 10}"]
    assert messages[-1][1], "the last of a write is always acknowledged"


def test_a_batch_is_fenced_at_its_start_and_committed_at_its_end() -> None:
    messages = published(Batched().encode(some(5), REPLY))
    batch = {headers["Nats-Batch-Id"] for _, _, headers in messages}
    assert len(batch) == 1
    assert len(batch.pop()) <= 64
    assert [headers["Nats-Batch-Sequence"] for _, _, headers in messages] == list("12345")
    assert [headers.get("Nats-Expected-Last-Sequence") for _, _, headers in messages] == ["0", None, None, None, None]
    assert [headers.get("Nats-Batch-Commit") for _, _, headers in messages] == [None, None, None, None, "1"]
    assert [reply for _, reply, _ in messages] == ["", "", "", "", f"{REPLY}5"]


def test_a_batch_sent_again_has_another_id() -> None:
    def batch_id(reply: str) -> str:
        return published(Batched().encode(some(2), reply))[0][2]["Nats-Batch-Id"]

    assert batch_id("_INBOX.token.a.3.") != batch_id("_INBOX.token.a.4.")


def test_a_batch_of_one_is_a_plain_message() -> None:
    assert Batched().encode(some(1), REPLY) == Pipelined().encode(some(1), REPLY)


def test_how_much_may_be_under_way() -> None:
    process, power = publisher_for("process"), publisher_for("power")
    assert (process.room(0), process.room(WINDOW)) == (WINDOW, 0)
    assert (power.room(0), power.room(1)) == (MAX_BATCH, 0)


def test_acknowledgements_are_read() -> None:
    assert read_acknowledgement((2, b"", b"", b"", b'{"stream":"S","seq":9,"domain":"d"}')) == Acknowledgement(9)
    refused = b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"E","seq":0}'
    assert read_acknowledgement((2, b"", b"", b"", refused)).error == Refusal(400, 10071, "wrong last sequence: 2")
    nobody = read_acknowledgement((2, b"", b"", b"NATS/1.0 503\r\n\r\n", b""))
    assert nobody.error is not None
    assert nobody.error.code == 503


@pytest.mark.parametrize(
    ("refusal", "complaint", "final", "words"),
    [
        (Refusal(400, 10077, "maximum bytes exceeded"), "", True, "limit of 123 bytes"),
        (Refusal(503, 10047, "insufficient storage resources available"), "", True, "disk of the event store is full"),
        (Refusal(), "write: no space left on device", True, "disk of the event store is full"),
        (Refusal(400, 10071, "wrong last sequence"), "", False, "does not take events: wrong last sequence"),
        (Refusal(503, 0, "no stream takes the event"), "", False, "error 503"),
    ],
)
def test_refusals_say_what_can_be_done(refusal: Refusal, complaint: str, final: bool, words: str) -> None:
    assert is_final(refusal, complaint) is final
    error = explain(refusal, max_bytes=123, backlog=7, complaint=complaint)
    assert words in str(error)
    assert "7 event(s) are not stored" in str(error)
    assert error.remedy


async def test_waiters_are_told_in_order_and_once() -> None:
    waiters = Waiters()
    third, first, second = waiters.add(3), waiters.add(1), waiters.add(2)
    waiters.advance(2)
    assert (first.done(), second.done(), third.done()) == (True, True, False)
    first_again = waiters.add(1)
    first_again.cancel()
    waiters.advance(3)
    assert third.done()
