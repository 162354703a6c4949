"""What strangers do to an HTTP port: real sockets against the gateway, with answers that cost nothing behind it."""

import asyncio
import gc
import json
import resource
from pathlib import Path

import psutil
import pytest

from mesh.gateway import intake, server
from mesh.gateway.keys import Key, hash_of, save_keys
from mesh.gateway.protocol import BoundedProtocol, Bounds, bounded
from tests.kit.gateways import Answering, serving
from tests.kit.waiting import until

pytestmark = pytest.mark.e2e
CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hello there"}]}).encode()


def post(body: bytes = BODY, *headers: str, host: str = "127.0.0.1", length: bool = True) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", f"host: {host}", "content-type: application/json", *headers]
    lines += [f"content-length: {len(body)}"] if length else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def talk(host: str, port: int, *pieces: bytes, within: float = 60) -> bytes:
    """Send the pieces, one after the other, and read up to the end of the connection."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(within):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.fixture
def hasty(monkeypatch):
    """Deadlines that a test can wait for."""

    def soon(bounds: Bounds) -> type[asyncio.Protocol]:
        return bounded(Bounds(bounds.connections, bounds.message_bytes, head_s=0.3, stalled_s=0.3))

    monkeypatch.setattr(server, "bounded", soon)
    monkeypatch.setattr(intake, "_BODY_S", 0.3)


@pytest.mark.parametrize(
    "begun", [b"", b"POST ", b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ", post() + b"GET /healthz HT"]
)
async def test_a_head_that_does_not_come_is_not_waited_for(hasty, tmp_path: Path, begun: bytes) -> None:
    async with serving(Answering(), tmp_path) as (_, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        async with asyncio.timeout(60):
            writer.write(begun)
            for _ in range(20):  # a byte now and then does not help
                await asyncio.sleep(0.05)
                writer.write(b"a")
            await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()


async def test_a_body_that_drips_is_refused(hasty, tmp_path: Path) -> None:
    requests = Answering()
    async with serving(requests, tmp_path) as (_, host, port):
        head = post(BODY).removesuffix(BODY)
        answer = await talk(host, port, head + BODY[:5])
    assert status(answer) == 408
    assert b"too slowly" in answer
    assert requests.refused


async def test_one_that_does_not_read_is_let_go(hasty, tmp_path: Path) -> None:
    body = json.dumps({"model": "echo", "prompt": "x" * (6 << 20)}).encode()
    async with serving(Answering(), tmp_path) as (gateway, host, port):
        _, writer = await asyncio.open_connection(host, port, limit=1024)
        writer.write(post(body).replace(CHAT.encode(), b"/v1/completions"))
        await writer.drain()
        await until(lambda: not gateway._server.server_state.connections, within=60)
        writer.close()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"a: " + b"x" * (70 << 10) + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"a: b\r\n" * 40_000 + b"\r\n", 431),
        (b"GET /" + b"x" * (1 << 20) + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\na: " + b"x" * (4 << 20), 431),
        (b"\r\n" * 100_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400),
        (b"FETCH / HTTP/1.1\r\n\r\n", 400),
        (post(b"zz\r\n", "transfer-encoding: chunked", length=False), 400),
        (post(b"ffffffffffffffffff\r\n", "transfer-encoding: chunked", length=False), 400),
        (post(BODY, "transfer-encoding: chunked"), 400),  # both lengths: a smuggler's
        (post(BODY, "content-length: 5"), 400),
    ],
)
async def test_what_is_no_http_is_refused_and_closed(tmp_path: Path, sent: bytes, expected: int) -> None:
    requests = Answering()
    async with serving(requests, tmp_path) as (_, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        async with asyncio.timeout(60):
            writer.write(sent)
            answer = await asyncio.gather(reader.read(200), return_exceptions=True)
        writer.close()
        alive = await talk(host, port, post(BODY, "connection: close"))
    # The connection may be cut before what was not read: then the answer is lost, and that is all.
    assert isinstance(answer[0], ConnectionError) or status(answer[0]) == expected
    assert len(requests.asked) == 1
    assert status(alive) == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model": "echo", "messages": [{"role": "user", "content": "\xff\xfe"}]}', 400),
        (b"\xef\xbb\xbf" + BODY, 400),
        (b'{"model": "echo", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
        (b'{"model": "echo", "seed": ' + b"9" * 5000 + b"}", 400),
        (b'{"model": "echo", "temperature": 1e999, "messages": []}', 400),
        (b'{"model": "echo", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (b'{"model": "\\u0000", "messages": [{"role": "user", "content": "x"}]}', 404),
    ],
)
async def test_what_is_no_text_or_no_number_is_refused(tmp_path: Path, body: bytes, expected: int) -> None:
    async with serving(Answering(), tmp_path) as (_, host, port):
        answer = await talk(host, port, post(body, "connection: close"))
    assert status(answer) == expected
    assert b'"message"' in answer


async def test_chunks_of_one_byte_and_what_trails_them(tmp_path: Path) -> None:
    requests = Answering()
    drip = b"".join(b"1;name=value\r\n%c\r\n" % byte for byte in BODY) + b"0\r\nhost: evil\r\n\r\n"
    async with serving(requests, tmp_path) as (_, host, port):
        sent = post(drip, "transfer-encoding: chunked", "connection: close", length=False)
        assert status(await talk(host, port, sent)) == 200
        endless = post(b"", "transfer-encoding: chunked", length=False) + b"0\r\n"
        trailers = await asyncio.gather(
            talk(host, port, endless, *[b"a: " + b"x" * 65_000 + b"\r\n"] * 20), return_exceptions=True
        )
    assert len(requests.asked) == 1
    assert not isinstance(trailers[0], TimeoutError)


async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    questions = [f"number {place}" for place in range(50)]
    bodies = [json.dumps({"model": "echo", "prompt": text}).encode() for text in questions]
    sent = b"".join(post(body) for body in bodies[:-1]) + post(bodies[-1], "connection: close")
    async with serving(Answering(), tmp_path) as (_, host, port):
        answer = await talk(host, port, sent.replace(CHAT.encode(), b"/v1/completions"))
    assert answer.count(b"HTTP/1.1 200") == 50
    places = [answer.index(f'"{text}"'.encode()) for text in questions]
    assert places == sorted(places)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_closes_its_half_is_gone(tmp_path: Path, *, stream: bool) -> None:
    requests = Answering()
    requests.hold = asyncio.Event()
    body = json.dumps({**json.loads(BODY), "stream": stream}).encode()
    async with serving(requests, tmp_path) as (_, host, port):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(post(body))
        await until(lambda: bool(requests.asked), within=60)
        writer.write_eof()
        await until(lambda: requests.cancelled == 1, within=60)
        writer.close()


@pytest.mark.parametrize(
    ("host_header", "expected"),
    [
        ("127.0.0.1", 200),
        ("localhost:1234", 200),
        ("[::1]:80", 200),
        ("me.localhost", 200),
        ("proxy.example", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
        ("127.0.0.1\r\nhost: evil.example", 421),
    ],
)
async def test_a_name_that_was_bound_anew_reaches_nothing(tmp_path: Path, host_header: str, expected: int) -> None:
    requests = Answering()
    async with serving(requests, tmp_path, hosts=["proxy.example"]) as (_, host, port):
        answer = await talk(host, port, post(BODY, "connection: close", host=host_header))
        sent = f"GET /v1/models HTTP/1.1\r\nhost: {host_header}\r\nconnection: close\r\n\r\n"
        models = await talk(host, port, sent.encode())
    assert (status(answer), status(models)) == (expected, expected)
    assert len(requests.asked) == (expected == 200)
    assert len(requests.refused) == 2 * (expected != 200)


async def test_strangers_do_not_fill_the_journal(tmp_path: Path) -> None:
    save_keys(tmp_path / "keys.json", [Key(name="a", hash=hash_of("mesh-a"), created_at=0)])
    requests = Answering()
    sent = post() * 99 + post(BODY, "connection: close")
    async with serving(requests, tmp_path) as (_, host, port):
        answer = await talk(host, port, sent)
        assert answer.count(b"HTTP/1.1 401") == 100
        known = await talk(host, port, post(BODY, "authorization: Bearer mesh-a", "connection: close"))
    assert status(known) == 200
    assert len(requests.refused) <= 2 * intake._STRANGERS_PER_MINUTE  # a minute may have turned
    assert len(requests.asked) == 1


async def test_a_crowd_is_bounded_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    crowd = min(5000, (hard if hard != resource.RLIM_INFINITY else 20_000) // 2 - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * crowd + 1000), hard))
    process = psutil.Process()
    try:
        async with serving(Answering(), tmp_path, max_connections=500) as (gateway, host, port):
            before = process.memory_info().rss
            for _ in range(2):
                await _crowd(host, port, crowd)
                await until(lambda: not gateway._server.server_state.connections, within=60)
            gc.collect()
            grown = process.memory_info().rss - before
            print(f"after 2 × {crowd} connections at once: {grown / 2**20:.1f} MiB more")
            assert status(await talk(host, port, post(BODY, "connection: close"))) == 200
            assert not any(isinstance(each, BoundedProtocol) for each in gc.get_objects())
            assert grown < 64 << 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _crowd(host: str, port: int, size: int) -> None:
    loop, made = asyncio.get_running_loop(), []
    for begin in range(0, size, 250):
        made += await asyncio.gather(
            *(loop.create_connection(asyncio.Protocol, host, port) for _ in range(min(250, size - begin)))
        )
    for transport, _ in made:
        transport.write(b"GET /v1/models HTTP/1.1\r\nx: ")
    await asyncio.sleep(0)
    for transport, _ in made:
        transport.abort()


async def test_ten_thousand_requests_leave_memory_as_it_was(tmp_path: Path) -> None:
    requests = Answering()
    process = psutil.Process()
    many = (post() * 2500)[: -len(post())] + post(BODY, "connection: close")
    async with serving(requests, tmp_path) as (_, host, port):
        await talk(host, port, many, within=60)
        requests.asked.clear()
        gc.collect()
        before = process.memory_info().rss
        for _ in range(3):
            await talk(host, port, many, within=60)
            requests.asked.clear()
        gc.collect()
        grown = process.memory_info().rss - before
    print(f"7500 requests: {grown / 2**20:.1f} MiB more")
    assert grown < 24 << 20


async def test_a_damaged_key_file_lets_nobody_new_in_and_nobody_out(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    save_keys(file, [Key(name="a", hash=hash_of("mesh-a"), created_at=0)])
    async with serving(Answering(), tmp_path) as (_, host, port):

        async def asked(secret: str) -> int:
            return status(await talk(host, port, post(BODY, f"authorization: Bearer {secret}", "connection: close")))

        assert (await asked("mesh-a"), await asked("mesh-b")) == (200, 401)
        for damage in (b"", b"{", b'{"keys": [{"name": "b"}]}', b"\xff"):
            file.write_bytes(damage)
            assert (await asked("mesh-a"), await asked("mesh-b"), await asked("")) == (200, 401, 401)
        file.unlink()
        file.mkdir()
        assert (await asked("mesh-a"), await asked("mesh-b")) == (200, 401)
        file.rmdir()
        save_keys(file, [Key(name="b", hash=hash_of("mesh-b"), created_at=0)])
        assert (await asked("mesh-a"), await asked("mesh-b")) == (401, 200)


async def test_beyond_loopback_the_last_key_taken_back_opens_no_door(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    save_keys(file, [Key(name="a", hash=hash_of("mesh-a"), created_at=0)])
    async with serving(Answering(), tmp_path, host="0.0.0.0") as (_, _host, port):
        key = "authorization: Bearer mesh-a"
        assert status(await talk("127.0.0.1", port, post(BODY, key, "connection: close", host="me.example"))) == 200
        save_keys(file, [])
        assert status(await talk("127.0.0.1", port, post(BODY, key, "connection: close"))) == 401
        file.unlink()
        assert status(await talk("127.0.0.1", port, post(BODY, "connection: close"))) == 401


async def test_a_defect_is_a_500_in_the_same_shape(tmp_path: Path) -> None:
    requests = Answering()

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    requests.ask = broken
    async with serving(requests, tmp_path) as (_, host, port):
        answer = await talk(host, port, post(BODY, "connection: close"))
    assert status(answer) == 500
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "server_error"


async def test_the_end_of_the_server_can_be_seen(tmp_path: Path) -> None:
    async with serving(Answering(), tmp_path) as (gateway, _, _):
        assert gateway.task is not None
        assert not gateway.task.done()
        gateway._server.should_exit = True  # as uvicorn itself would
        async with asyncio.timeout(60):
            await gateway.task
