"""The NATS parser: however the bytes are cut, the same messages; and junk is refused, not guessed at."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.events.stored import delivered_sequence
from mesh.events.wire import Parser, header, publication, status_of

TOKEN = st.text("abcXYZ019_$>*-", min_size=1, max_size=8)
SUBJECT = st.lists(TOKEN, min_size=1, max_size=4).map(".".join)
BODY = st.binary(max_size=80)
HEADERS = st.sampled_from([b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"NATS/1.0 503\r\n\r\n"])
CONTROL = st.sampled_from([b"PING", b"PONG", b"+OK", b"-ERR 'x'", b'INFO {"a":1}'])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes, bytes, bytes, bytes]], list[bytes]]:
    """Bytes as a server sends them, and what they hold."""
    data, messages, controls = b"", [], []
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            line = draw(CONTROL)
            controls.append(line)
            data += line + b"\r\n"
            continue
        sid, subject, reply = draw(st.integers(1, 99)), draw(SUBJECT).encode(), draw(st.just("") | SUBJECT).encode()
        headers, body = draw(HEADERS), draw(BODY)
        middle = b"%b %d %b" % (subject, sid, reply + b" " if reply else b"")
        if headers:
            data += b"HMSG %b%d %d\r\n" % (middle, len(headers), len(headers) + len(body))
        else:
            data += b"MSG %b%d\r\n" % (middle, len(body))
        data += headers + body + b"\r\n"
        messages.append((sid, subject, reply, headers, body))
    return data, messages, controls


@given(streams(), st.lists(st.integers(1, 40), max_size=30))
def test_any_cutting_of_the_bytes_gives_the_same_messages(
    stream: tuple[bytes, list[tuple[int, bytes, bytes, bytes, bytes]], list[bytes]], cuts: list[int]
) -> None:
    data, messages, controls = stream
    parser = Parser()
    got_messages, got_controls, at = [], [], 0
    for size in [*cuts, len(data) + 1]:
        new_messages, new_controls = parser.feed(data[at : at + size])
        got_messages += new_messages
        got_controls += new_controls
        at += size
    assert got_messages == messages
    assert got_controls == controls


@given(st.binary(max_size=200))
def test_junk_is_a_value_error_or_waits_for_more(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        Parser().feed(data)


@given(st.sampled_from([b"MSG", b"HMSG"]), st.lists(st.binary(max_size=6), max_size=6))
def test_a_broken_message_line_is_a_value_error_or_waits(verb: bytes, parts: list[bytes]) -> None:
    with contextlib.suppress(ValueError):
        Parser().feed(b" ".join([verb, *parts]) + b"\r\n" + b"x" * 100)


@pytest.mark.parametrize("line", [b"MSG a 1 -20", b"HMSG a 1 5 -20", b"MSG", b"MSG a b c", b"HMSG a 1 x 4", b"MSG 5"])
def test_a_line_that_makes_no_sense_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|invalid literal"):
        Parser().feed(line + b"\r\n" + b"x" * 100)


def test_a_publication_is_what_the_protocol_says() -> None:
    assert publication("a.b", b"xyz") == b"PUB a.b 3\r\nxyz\r\n"
    assert publication("a", b"xyz", reply="r") == b"PUB a r 3\r\nxyz\r\n"
    headers = b"NATS/1.0\r\nA: b\r\n\r\n"
    assert publication("a", b"xyz", reply="r", headers=headers) == b"HPUB a r 18 21\r\n" + headers + b"xyz\r\n"


@given(st.binary(max_size=100), st.text(max_size=10))
def test_headers_are_searched_without_surprises(headers: bytes, name: str) -> None:
    assert isinstance(header(headers, name), str)
    assert isinstance(status_of(headers), int)


def test_header_names_are_case_insensitive_and_whole() -> None:
    headers = b"NATS/1.0\r\nXMesh-Id: no\r\nmesh-id: yes\r\n\r\n"
    assert header(headers, "Mesh-Id") == "yes"
    assert header(headers, "Mesh") == ""


def test_both_forms_of_a_delivery_say_their_sequence() -> None:
    short = b"$JS.ACK.MESH_EVENTS.c.1.42.7.1700000000.3"
    long = b"$JS.ACK.hub.ACCOUNTHASH.MESH_EVENTS.c.1.42.7.1700000000.3.rnd"
    for reply in (short, long):
        assert delivered_sequence((1, b"s", reply, b"", b"")) == 42
