"""What takes deliveries off the front of the bytes gives the records that the parser gives, however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.events.envelope import Record
from mesh.events.stored import delivered_sequence, headers_of, take_records, to_record
from mesh.events.wire import Message, Parser
from tests.kit.records import some

JOURNAL = some(8)
SHORT = "$JS.ACK.MESH_EVENTS.mesh_1f.1.{}.7.1700000000.3"
LONG = "$JS.ACK.hub.HASH.MESH_EVENTS.mesh_1f.1.{}.7.1700000000.3.rnd"
REPLIES = (SHORT, SHORT, SHORT, LONG, SHORT.replace("MESH_EVENTS", "OTHER"))
# How a stored message may differ from what a node writes: not, in its link, its headers' size or its bytes.
CHANGES = (
    lambda headers, payload: (headers, payload),
    lambda headers, payload: (headers, payload),
    lambda headers, payload: (headers.upper().replace(b"MESH-P", b"Mesh-P"), payload),
    lambda headers, payload: (headers.replace(b"Mesh-Prev: ", b"Mesh-Prev: xyz"), payload),
    lambda headers, payload: (headers[:-70] + b"-" * 64 + headers[-6:], payload),
    lambda headers, payload: (b"NATS/1.0\r\n\r\n", payload),
    lambda headers, payload: (headers[:40], headers[40:] + payload),
    lambda headers, payload: (headers, payload[:30]),
    lambda headers, payload: (headers, b""),
)
OTHERS = (b"PING\r\n", b"HMSG _INBOX.p.1 3 26 26\r\nNATS/1.0 404 No Messages\r\n\r\n\r\n", b"MSG a.b 1 r 2\r\nhi\r\n")


@st.composite
def deliveries(draw: st.DrawFn) -> bytes:
    """Bytes as a server sends them to who reads the journal."""
    data = b""
    for record in draw(st.lists(st.sampled_from(JOURNAL), max_size=8)):
        written = f"{headers_of(record)}Nats-Expected-Last-Sequence: 6\r\n\r\n".encode()
        headers, payload = draw(st.sampled_from(CHANGES))(written, record.payload)
        reply = draw(st.sampled_from(REPLIES)).format(record.position)
        sid = draw(st.integers(2, 4))
        data += f"HMSG {record.subject} {sid} {reply} {len(headers)} {len(headers) + len(payload)}\r\n".encode()
        data += headers + payload + b"\r\n" + draw(st.sampled_from((b"", b"", *OTHERS)))
    return data


class Reading:
    """Counts and keeps as `mesh.events.pulls` does, with or without taking records first."""

    def __init__(self, *, skims: bool) -> None:
        self.skimmed = 0
        self.records: list[Record] = []
        self.sids: list[int] = []
        self.rest: list[Message] = []
        self.controls: list[bytes] = []
        self._parser = Parser()
        if skims:
            self._parser.skim = self._skim

    def feed(self, data: bytes) -> None:
        messages, controls = self._parser.feed(data)
        self.controls += controls
        for message in messages:
            if message[2].startswith(b"$JS"):
                self.records.append(to_record(delivered_sequence(message), message[1], *message[3:]))
                self.sids.append(message[0])
            else:
                self.rest.append(message)

    def _skim(self, data: bytes) -> int:
        sids: list[bytes] = []
        stop = take_records(data, self.records, sids)
        self.sids += map(int, sids)
        self.skimmed += len(sids)
        return stop


def read(data: bytes, cuts: list[int], *, skims: bool) -> Reading:
    reading, at = Reading(skims=skims), 0
    for size in [*cuts, len(data) + 1]:
        reading.feed(data[at : at + size])
        at += size
    return reading


@given(deliveries(), st.lists(st.integers(1, 2000), max_size=12))
def test_records_are_taken_as_they_would_be_parsed(data: bytes, cuts: list[int]) -> None:
    taken, parsed = read(data, cuts, skims=True), read(data, [], skims=False)
    assert taken.records == parsed.records
    assert taken.sids == parsed.sids
    assert (taken.rest, taken.controls) == (parsed.rest, parsed.controls)


def test_what_a_node_wrote_is_taken_without_the_parser() -> None:
    data = b""
    for record in JOURNAL:
        headers = f"{headers_of(record)}\r\n".encode()
        line = f"HMSG {record.subject} 2 {SHORT.format(record.position)} {len(headers)} {len(headers + record.payload)}"
        data += line.encode() + b"\r\n" + headers + record.payload + b"\r\n"
    reading = read(data, [], skims=True)
    assert reading.records == JOURNAL
    assert reading.skimmed == len(JOURNAL)
