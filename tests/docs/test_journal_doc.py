"""Section 13 of docs/protocol.md against the code: every example, every number, and a verifier from the text alone."""

import json
import re
import struct
from hashlib import sha256
from pathlib import Path

import msgspec
from nacl.signing import VerifyKey

from mesh.config import ShareConfig
from mesh.events import feed
from mesh.identity import Identity, public_key_of
from mesh.p2p.sharing import bridge, desk, entries, messages, streams
from mesh.p2p.sharing.acceptance import MAX_TYPES
from mesh.p2p.sharing.policy import FAMILIES

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text().partition("## 13. ")[2]
_FENCE = re.compile(r"^```(\w+) (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCES = {(language, name): body.strip() for language, name, body in _FENCE.findall(TEXT)}
EVENT = FENCES["json", "event"].encode()
STATEMENT = json.loads(FENCES["json", "statement"])


def hex_of(name: str) -> bytes:
    return bytes.fromhex("".join(FENCES["hex", name].split()))


def test_the_statement_is_signed_over_the_bytes_that_are_shown() -> None:
    """Only struct, hashlib and the key of the PeerId: what the text says."""
    origin = STATEMENT["origin"]
    genesis = sha256(b"mesh-feed/1:" + origin.encode() + b":" + struct.pack(">Q", STATEMENT["epoch"])).digest()
    link = sha256(genesis + struct.pack(">Q", 1) + EVENT).digest()
    assert (STATEMENT["prev"], STATEMENT["link"]) == (genesis.hex(), link.hex())
    numbers = struct.pack(">QQQQ", *(STATEMENT[name] for name in ("epoch", "first", "last", "origin_seq")))
    signed = b"mesh-batch/1:" + origin.encode() + b":" + numbers + genesis + link
    assert signed == hex_of("batchsigned")
    VerifyKey(public_key_of(origin)).verify(signed, bytes.fromhex(STATEMENT["signature"]))


def test_the_examples_are_what_the_code_makes_and_reads() -> None:
    key = Identity(bytes(range(32)))
    prev = feed.feed_genesis(key.peer_id, STATEMENT["epoch"])
    batch = feed.sign_batch(key, epoch=STATEMENT["epoch"], first=1, origin_seq=42, prev=prev, payloads=[EVENT])
    assert msgspec.json.encode(batch).decode() == FENCES["json", "statement"]
    assert messages.encode_batch(batch, [EVENT]) == hex_of("page")
    assert messages.decode_page(hex_of("page")) == [(batch, [EVENT])]
    assert entries.check_entry(key.peer_id, EVENT, 41).origin_seq == 42
    announcement = FENCES["json", "announcement"].encode()
    head, digest = messages.decode_announcement(key.peer_id, announcement)
    assert messages.encode_announcement(head, digest) == announcement
    assert head == batch


def test_every_field_and_every_rule_is_explained() -> None:
    for model in (messages.Statement, messages.Announcement, messages.Heads, messages.RangeHeader):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in TEXT, (model, name)
    for source in Path(bridge.__file__).parent.glob("*.py"):
        for rule in re.findall(r'"(journal_[a-z_]+)"', source.read_text()):
            told = TEXT if rule not in ("journal_size", "journal_size_of_all", "journal_equivocation") else OVERLAY
            assert f"`{rule}`" in told, (source.name, rule)


OVERLAY = (Path(__file__).parents[2] / "docs" / "overlay.md").read_text()


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    text, config = " ".join(TEXT.split()), ShareConfig()
    for said in (
        messages.PROTOCOL,
        f"At most {feed.MAX_EVENT_BYTES} bytes, at most {feed.MAX_BATCH_BYTES} in a batch",
        f"at most {feed.MAX_BATCH_EVENTS} events",
        f"at most {entries.MAX_TEXT_BYTES} bytes of UTF-8",
        f"nested at most {entries.MAX_DEPTH} deep",
        f"at most {entries.MAX_VALID_S:g} s",
        f"at most {MAX_TYPES} types",
        f"at most {messages.MAX_HEADS} statements",
        f"at most {messages.MAX_PAGE_BYTES}",
        f"without gaps, at most {messages.MAX_PAGE_BATCHES}",
        f"takes {streams.VISITORS_PER_PEER} at a time from one peer, and {streams.VISITORS} in all",
        f"at most {streams.VISIT_S:g} s each",
        f"More than {desk.CALLS_AT_ONCE:g} calls at once, and {desk.CALLS_PER_S:g} a second",
        f"More than {bridge.ANNOUNCEMENTS:g} at once, and one in {1 / bridge.ANNOUNCEMENTS_PER_S:g} s",
        f"every {bridge.ANNOUNCE_S:g} s",
        f"differs for {bridge.DIFFERS_S:g} s",
        f"in about {bridge.LOOK_S:g} s",
        f"the last {config.history} events",
        f"unless it is {config.catch_up} behind",
        *(f"`{family}`" for family in FAMILIES),
    ):
        assert said in text, said
