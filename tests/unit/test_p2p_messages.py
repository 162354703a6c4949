import json

import pytest

from mesh.errors import PeerMisbehaved
from mesh.p2p import messages
from mesh.p2p.frames import Decoder, Kind
from mesh.p2p.messages import ErrorBody, Hello, Limits, RequestHead, ResultHead

LIMITS = Limits(max_frame_bytes=65536, max_body_bytes=1 << 20, requests=8, window_bytes=65536)
HEAD = {"method": "m", "timeout_ms": 5, "body_bytes": 0, "header": {}}


def body_of(frame: bytes) -> bytes:
    return Decoder(1 << 20).feed(frame)[0].body


def misbehaves(rule, call, *args):
    with pytest.raises(PeerMisbehaved) as caught:
        call(*args)
    assert caught.value.rule == rule
    assert len(str(caught.value)) < 500


def test_hello_round_trip_and_unknown_fields():
    hello = Hello(versions=[1], mesh="lab", name="eins", heartbeat_ms=500, limits=LIMITS)
    raw = json.loads(body_of(messages.hello(hello)))
    raw["later"] = {"any": "thing"}
    raw["limits"]["later"] = 1
    assert messages.parse(Hello, json.dumps(raw).encode(), 4096) == hello


def test_request_head_round_trip_with_inline_body():
    head = messages.request_head("expert.ask", 1500, {"expert": "é", "n": [1, 2.5, None]}, 5)
    body = body_of(messages.with_head(Kind.REQUEST, 1, head, b"hello"))
    parsed, inline = messages.parse_head(RequestHead, body)
    assert (parsed.method, parsed.timeout_ms, parsed.body_bytes, inline) == ("expert.ask", 1500, 5, b"hello")
    assert parsed.header == {"expert": "é", "n": [1, 2.5, None]}


@pytest.mark.parametrize(
    "change",
    [
        {"method": ""},
        {"method": "x" * 65},
        {"method": 1},
        {"timeout_ms": 0},
        {"timeout_ms": 1.0},
        {"timeout_ms": "1"},
        {"timeout_ms": True},
        {"timeout_ms": messages.MAX_TIMEOUT_MS + 1},
        {"body_bytes": -1},
        {"header": []},
        {"header": None},
        {"header": {"deep": {"x": [float("nan")]}}},
        {"header": {"x": float("inf")}},
    ],
)
def test_a_request_out_of_bounds_is_misbehaviour(change):
    misbehaves("malformed", messages.parse, RequestHead, json.dumps({**HEAD, **change}).encode(), 16384)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"x"',
        b'{"method":"\xff"}',
        b'{"method":"\\ud800","timeout_ms":1}',
        b'{"method":"m","timeout_ms":1,"header":{"x":1e999}}',
        b'{"method":"m","timeout_ms":1,"header":' + b"[" * 8000,
        b'{"method":"m","timeout_ms":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_is_misbehaviour(raw):
    misbehaves("malformed", messages.parse, RequestHead, raw, 16384)


def test_sizes_are_checked_before_parsing():
    misbehaves("json_too_large", messages.parse, ErrorBody, b" " * 5000, 4096)
    misbehaves("malformed", messages.parse_head, ResultHead, b"\0\0")
    misbehaves("malformed", messages.parse_head, ResultHead, (9).to_bytes(4, "big") + b"{}")


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0\1"])
def test_credit_is_a_positive_u32(body):
    misbehaves("malformed", messages.parse_credit, body)


def test_credit_ping_and_pong_round_trip():
    assert messages.parse_credit(body_of(messages.credit(3, 70_000))) == 70_000
    assert messages.parse_ping(body_of(messages.ping(3, 123456789))) == 123456789
    assert messages.parse_pong(body_of(messages.pong(3, 1, 2))) == (1, 2)
    misbehaves("malformed", messages.parse_ping, bytes(7))
    misbehaves("malformed", messages.parse_pong, bytes(8))


def test_the_worst_error_still_fits_in_the_smallest_frame():
    frame = messages.error(1, "\0" * 100, "\0" * 5000, retryable=True)
    body = body_of(frame)
    assert len(body) <= messages.MIN_FRAME_BYTES
    assert messages.parse(ErrorBody, body, messages.MAX_ERROR_BYTES).retryable
    assert "?" in messages.parse(ErrorBody, body_of(messages.error(1, "k", "\ud800")), 4096).message


def test_a_head_that_is_no_json_or_too_large_is_our_own_error():
    with pytest.raises(ValueError, match="limit"):
        messages.request_head("m", 1, {"x": "y" * 20_000}, 0)
    with pytest.raises(TypeError):
        messages.request_head("m", 1, {"x": object()}, 0)  # type: ignore[dict-item]
