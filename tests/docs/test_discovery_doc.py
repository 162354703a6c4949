"""What the documents say of discovery is what the code does."""

import json
import re
from pathlib import Path

import pytest

from mesh.experts import directory
from mesh.p2p import hints, introductions, peer_book
from mesh.p2p.host import kad_lookup, kad_messages, kad_table

DOCS = Path(__file__).parents[2] / "docs"
OVERLAY, PROTOCOL = (DOCS / "overlay.md").read_text(), (DOCS / "protocol.md").read_text()


def test_the_key_of_a_domain() -> None:
    block = re.search(r"```json dht\n(.*?)```", PROTOCOL, re.DOTALL)
    assert block is not None
    example = json.loads(block.group(1))
    assert kad_table.key_of(example["name"]).hex() == example["key"]


@pytest.mark.parametrize(
    "said",
    [
        f"{peer_book.MAX_KNOWN} remembered, for {peer_book.FORGET_AFTER_S / 86400:.0f} days",
        f"with up to {introductions.MAX_TOLD} others",
        f"{introductions.MAX_UNTRIED} are tried at a time, each is dialled {introductions.HINT_PATIENCE} times",
        f"for {introductions.SHUN_S / 60:.0f} minutes",
        f"for {directory.LOOKUP_S:.0f} s, and once in {directory.AGAIN_S:.0f} s for each domain",
        f"up to {directory.MAX_DIALLED} of the found",
        f"for {directory.ANSWER_S:.0f} s, and all that",
        f"{kad_table.MAX_PROVIDERS_PER_KEY} peers, {kad_table.MAX_KEYS_PER_PROVIDER} keys of one",
        f"{kad_table.MAX_KEYS} keys in all",
        f"believed for {kad_table.RECORD_TTL_S / 60:.0f} min, and told again after {kad_table.RECORD_TTL_S / 180:.0f}",
        f"{kad_lookup.MAX_ASKED} in all, {kad_lookup.MAX_STRANGERS} of them",
        f"the table: {kad_table.K} nodes",
    ],
)
def test_the_limits_of_the_overlay_document(said: str) -> None:
    assert said in " ".join(OVERLAY.split()), said


@pytest.mark.parametrize(
    "said",
    [
        f"at most {kad_messages.MAX_BYTES} bytes",
        f"up to {kad_messages.MAX_PEERS} peers of {kad_messages.MAX_ADDRESSES} addresses",
        f"a key of at most {kad_messages.MAX_KEY_BYTES} bytes",
        f"array of at most {hints.MAX_HINT_ADDRESSES} multiaddrs",
    ],
)
def test_the_limits_of_the_protocol_document(said: str) -> None:
    assert said in " ".join(PROTOCOL.split()), said
