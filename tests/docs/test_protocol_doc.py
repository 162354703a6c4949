"""docs/protocol.md against the code: every example, every constant, and a client written from the document alone."""

import asyncio
import hashlib
import hmac
import json
import re
import struct
from pathlib import Path

import pytest
from nacl import bindings
from nacl.signing import SigningKey

from mesh.config import OverlayConfig
from mesh.experts import wire, wire_offers
from mesh.experts.answers import digest, sign_answer, signed_bytes, verify_answer
from mesh.experts.offers import RENEW_INTERVALS
from mesh.identity import Identity
from mesh.p2p import calls, messages, packing, sealed_calls, sealing, session, topics
from mesh.p2p.calls import InboundCall, Reply
from mesh.p2p.frames import Decoder, Frame, Kind, encode
from mesh.p2p.memory_link import memory_stream
from mesh.p2p.messages import ErrorBody, Hello, RequestHead, ResultHead
from mesh.p2p.serving import ACCEPT_S
from mesh.p2p.streams import our_hello
from tests.kit.wire_pair import answering

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
_FENCE = re.compile(r"^```(\w+) (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCES = {(language, name): body for language, name, body in _FENCE.findall(TEXT)}


def hex_of(name: str) -> bytes:
    lines = FENCES["hex", name].splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def json_of(name: str):
    return json.loads(FENCES["json", name])


def frame_of(name: str) -> Frame:
    (frame,) = Decoder(65536).feed(hex_of(name))
    return frame


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_row_and_an_example_of_that_kind(kind):
    assert re.search(rf"^\| {kind.value} \| {kind.name} \|", TEXT, re.MULTILINE)
    frame = frame_of(kind.name)
    assert frame.kind is kind
    assert encode(*frame) == hex_of(kind.name)


def test_the_examples_mean_what_the_document_says():
    hello = messages.parse(Hello, frame_of("HELLO").body, messages.MAX_HELLO_BYTES)
    assert hello == Hello.model_validate(json_of("hello"))
    assert hello == our_hello(OverlayConfig(), mesh="mesh", name="eins")
    request, body = messages.parse_head(RequestHead, frame_of("REQUEST").body)
    assert (request, body) == (RequestHead.model_validate(json_of("request")), b"2+2?")
    result, body = messages.parse_head(ResultHead, frame_of("RESULT").body)
    assert (result, body) == (ResultHead.model_validate(json_of("result")), b"")
    error = messages.parse(ErrorBody, frame_of("ERROR").body, messages.MAX_ERROR_BYTES)
    assert error == ErrorBody.model_validate(json_of("error"))
    assert messages.parse_credit(frame_of("CREDIT").body) == 131072
    assert messages.parse_ping(frame_of("PING").body) == 1760000000000000
    assert messages.parse_pong(frame_of("PONG").body) == (1760000000000000, 1760000000000420)
    assert (frame_of("CHUNK").body, frame_of("BODY").body) == (b"4", b"abc")


def test_our_encoder_makes_the_same_bytes():
    assert messages.hello(Hello.model_validate(json_of("hello"))) == hex_of("HELLO")
    head = json_of("request")
    raw = messages.request_head(head["method"], head["timeout_ms"], head["header"], head["body_bytes"])
    assert messages.with_head(Kind.REQUEST, 1, raw, b"2+2?") == hex_of("REQUEST")
    raw = messages.result_head(json_of("result")["header"], 0)
    assert messages.with_head(Kind.RESULT, 1, raw) == hex_of("RESULT")
    assert messages.error(2, **json_of("error")) == hex_of("ERROR")


def test_the_compressed_body_is_what_its_head_says():
    head = RequestHead.model_validate(json_of("packed"))
    frame = hex_of("packed")
    assert head.body_bytes == len(frame)
    assert packing.unpack(frame, head.plain_bytes) == b"12 + 34 = ?\n" * 500
    assert our_hello(OverlayConfig(), mesh="mesh", name="eins").features == [packing.FEATURE]


def test_headers_and_offers_are_those_of_the_experts():
    wire.AskHeader.model_validate(json_of("request")["header"])
    answer = wire.AnswerHeader.model_validate(json_of("result")["header"])
    assert answer.digest == digest("4")
    peer = json_of("signature")["peer"]
    (offer,) = wire_offers.decode_offers(peer, FENCES["json", "offers"].encode())
    assert offer.expert == "solver"
    for model in (
        wire.AskHeader,
        wire.AnswerHeader,
        wire_offers.OffersMessage,
        wire_offers.OfferEntry,
        Hello,
        RequestHead,
        ErrorBody,
    ):
        missing = [name for name in model.model_fields if not re.search(rf"`(offers\[\])?\.?{name}`", TEXT)]
        assert missing == [] or missing == ["limits"], model
    for name in messages.Limits.model_fields:
        assert f"`limits.{name}`" in TEXT


def test_the_signature_is_over_the_bytes_that_are_shown():
    example = json_of("signature")
    fields = {name: example[name] for name in ("request", "expert", "model", "digest")}
    identity = Identity(bytes.fromhex(example["seed"]))
    assert identity.peer_id == example["peer"]
    assert signed_bytes(**fields) == hex_of("signed")
    assert sign_answer(identity, **fields) == example["signature"] == json_of("result")["header"]["signature"]
    assert verify_answer(example["peer"], example["signature"], **fields)


def test_the_numbers_in_the_text_are_those_of_the_code():
    config = OverlayConfig()
    for said in (
        messages.PROTOCOL,
        f"at most {messages.MAX_HELLO_BYTES} bytes",
        f"(at most {messages.MAX_HEAD_BYTES})",
        f"1…{messages.MAX_TIMEOUT_MS}",
        f"at most {messages.MAX_MESSAGE_CHARS} characters",
        f"a frame body of {messages.MIN_FRAME_BYTES} bytes",
        f"most {session.HANDSHAKE_S:g} s",
        f"{config.max_frame_bytes} here",
        f"{ACCEPT_S * 1000:g} ms",
        f"{config.max_request_bytes} here",
        f"{config.requests_per_peer} here",
        f"more than {config.compress_over_bytes} bytes",
        f"{config.max_buffered_bytes >> 22} MiB of one peer, {config.max_buffered_bytes >> 20} MiB of all",
        f"at most {topics.MAX_GOSSIP_BYTES} bytes",
        f"again {config.offer_interval_s:g} s later, and every {RENEW_INTERVALS * config.offer_interval_s:g} s",
        topics.Topics("mesh").on_wire("offers"),
        wire.ASK,
        wire_offers.OFFERS,
    ):
        assert said in TEXT, said
    assert messages.MAX_ERROR_BYTES == messages.MAX_HELLO_BYTES


def test_every_error_kind_and_rule_of_the_code_is_explained():
    for kind in calls._RETRYABLE:
        assert f"`{kind}`" in TEXT, kind
    sources = Path(messages.__file__).parent
    for name in ("frames", "messages", "credit", "outbox", "calling", "serving", "session", "packing", "sealing"):
        for rule in re.findall(r"PeerMisbehaved\(\s*\"(\w+)\"", (sources / f"{name}.py").read_text()):
            assert f"`{rule}`" in TEXT, rule


def expand(key: bytes, info: bytes) -> bytes:
    return hmac.digest(key, info + b"\1", "sha256")


def test_what_is_sealed_opens_with_what_the_document_says():
    """Every step of section 12 from the vectors, with a library for curves and ciphers and nothing of ours."""
    vectors = json_of("seal")
    opener, acceptor = (
        {k: bytes.fromhex(v) for k, v in vectors[s].items() if k != "peer"} for s in ("opener", "acceptor")
    )
    statics = [
        bindings.crypto_sign_ed25519_sk_to_curve25519(SigningKey(s["seed"])._signing_key) for s in (opener, acceptor)
    ]
    public = [bindings.crypto_scalarmult_base(secret) for secret in statics]
    for side in (opener, acceptor):
        assert bindings.crypto_scalarmult_base(side["stream_secret"]) == side["hello_seal"]
    mine = opener["stream_secret"]
    results = bindings.crypto_scalarmult(mine, acceptor["hello_seal"])
    results += bindings.crypto_scalarmult(mine, public[1])
    results += bindings.crypto_scalarmult(statics[0], acceptor["hello_seal"])
    assert bindings.crypto_scalarmult(acceptor["stream_secret"], public[0]) == results[64:]
    peers = [vectors[side]["peer"].encode() for side in ("opener", "acceptor")]
    parties = [*peers, opener["hello_seal"], acceptor["hello_seal"]]
    context = b"".join(struct.pack(">I", len(party)) + party for party in parties)
    extracted = hmac.digest(b"mesh-seal/1", results, "sha256")
    secret = expand(extracted, b"mesh-seal/1 stream " + hashlib.sha256(context).digest())
    assert secret.hex() == vectors["secret"]
    keys = {}
    for direction in ("request", "answer"):
        keys[direction] = expand(secret, b"mesh-seal/1 " + direction.encode() + b" " + struct.pack(">Q", 1))
        assert keys[direction].hex() == vectors[f"{direction}_key_of_call_1"]
    head, parcel = messages.parse_head(RequestHead, frame_of("sealedrequest").body)
    assert (head.method, head.header, head.body_bytes) == ("sealed", {}, len(parcel))
    plain = opened(parcel, keys["request"], last=1)
    (size,) = struct.unpack(">I", plain[:4])
    assert (json.loads(plain[4 : 4 + size]), plain[4 + size :]) == ({"method": "expert.offers", "header": {}}, b"")
    assert opened(hex_of("sealedchunk"), keys["answer"], last=0) == b"4"


def opened(parcel: bytes, key: bytes, *, last: int) -> bytes:
    (size,) = struct.unpack(">I", parcel[:4])
    assert len(parcel) == 4 + size == 260
    nonce = struct.pack(">B3xQ", last, 0)
    plain = bindings.crypto_aead_chacha20poly1305_ietf_decrypt(parcel[4:], None, nonce, key)
    (size,) = struct.unpack(">I", plain[:4])
    assert not any(plain[4 + size :])
    return plain[4 : 4 + size]


def test_our_sealer_makes_the_same_bytes():
    vectors = json_of("seal")
    one, other = (Identity(bytes.fromhex(vectors[side]["seed"])) for side in ("opener", "acceptor"))
    key = sealing.stream_key(bytes.fromhex(vectors["opener"]["stream_secret"]))
    seals = sealing.agree(one, key, other.peer_id, vectors["acceptor"]["hello_seal"], opener=True)
    content = messages.sealed_content({"method": "expert.offers", "header": {}}, b"")
    record = seals.sealer("request", 1).seal(content, last=True)
    parcel = struct.pack(">I", len(record)) + record
    assert messages.with_head(
        Kind.REQUEST, 1, messages.request_head("sealed", 5000, {}, len(parcel)), parcel
    ) == hex_of("sealedrequest")
    for said in (
        sealing.LABEL.decode(),
        f"at least {sealing.LEAST_RECORD_BYTES}",
        f"more than {sealed_calls._INLINE_BYTES} bytes",
    ):
        assert said in TEXT, said


class Client:
    """Written from the document: struct, json, and nothing of ours."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, kind: int, call: int, body: bytes = b"") -> None:
        self.writer.write(struct.pack(">IBQ", 9 + len(body), kind, call) + body)

    async def receive(self) -> tuple[int, int, bytes]:
        length, kind, call = struct.unpack(">IBQ", await self.reader.readexactly(13))
        return kind, call, await self.reader.readexactly(length - 9)

    async def hello(self, mesh: str) -> dict:
        limits = {"max_frame_bytes": 4096, "max_body_bytes": 1 << 20, "requests": 1, "window_bytes": 1024}
        self.send(1, 0, json.dumps({"versions": [1], "mesh": mesh, "role": "client", "limits": limits}).encode())
        kind, call, body = await self.receive()
        assert (kind, call) == (1, 0)
        return json.loads(body)

    async def call(self, number: int, method: str, header: dict, body: bytes) -> tuple[list[bytes], dict, bytes]:
        head = json.dumps({"method": method, "timeout_ms": 5000, "body_bytes": len(body), "header": header}).encode()
        self.send(2, number, struct.pack(">I", len(head)) + head)
        for start in range(0, len(body), 1000):
            self.send(3, number, body[start : start + 1000])
        chunks: list[bytes] = []
        rest, result = b"", {}
        while True:
            kind, call, data = await self.receive()
            assert call == number
            if kind == 5:
                chunks.append(data)
                self.send(9, number, struct.pack(">I", len(data)))
            elif kind == 6:
                (size,) = struct.unpack(">I", data[:4])
                result, rest = json.loads(data[4 : 4 + size]), data[4 + size :]
            elif kind == 3:
                rest += data
                self.send(9, number, struct.pack(">I", len(data)))
            else:
                assert kind in (4, 9), (kind, data)
            if result and len(rest) == result["body_bytes"]:
                return chunks, result["header"], rest


async def reversed_in_chunks(call: InboundCall) -> Reply:
    for start in range(0, len(call.body), 3000):
        await call.send(call.body[start : start + 3000])
    return Reply({"asked": call.header, "peer": call.peer}, call.body[::-1])


async def test_a_client_written_from_the_document_gets_its_answers():
    near, far = memory_stream()
    ours = our_hello(OverlayConfig(), mesh="mesh", name="zwei")
    server = answering(far, ours, {"reverse": reversed_in_chunks})
    task = asyncio.create_task(server.run())
    client = Client(near.reader, near.writer)
    hello = await client.hello("mesh")
    assert (hello["versions"], hello["mesh"], hello["name"]) == ([1], "mesh", "zwei")
    for number, size in ((1, 0), (5, 10), (6, 100_000)):
        body = bytes(n % 251 for n in range(size))
        chunks, header, rest = await client.call(number, "reverse", {"n": number}, body)
        assert (b"".join(chunks), rest) == (body, body[::-1])
        assert header["asked"] == {"n": number}
    client.send(10, 7, struct.pack(">Q", 12345))
    kind, call, body = await client.receive()
    assert (kind, call, struct.unpack(">QQ", body)[0]) == (11, 7, 12345)
    near.writer.close()
    await task
    await server.end.close()


async def test_the_requests_of_the_document_get_the_answers_of_the_document():
    """Byte for byte: the acceptor's side of the conversation in sections 4 and 5."""

    async def ask(call: InboundCall) -> Reply:
        assert (call.header, call.body) == (json_of("request")["header"], b"2+2?")
        await asyncio.sleep(2 * ACCEPT_S)
        await call.send(b"4")
        return Reply(json_of("result")["header"])

    near, far = memory_stream()
    server = answering(far, our_hello(OverlayConfig(), mesh="mesh", name="eins"), {"expert.ask": ask})
    task = asyncio.create_task(server.run())
    near.writer.write(hex_of("HELLO") + hex_of("REQUEST"))
    expected = hex_of("HELLO") + hex_of("ACCEPTED") + hex_of("CHUNK") + hex_of("RESULT")
    assert await near.reader.readexactly(len(expected)) == expected
    near.writer.close()
    await task
    await server.end.close()
