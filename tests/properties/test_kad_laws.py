"""The DHT against any bytes and any answers: a message or the peer's fault, bounded tables, walks that end."""

import contextlib
import random

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.p2p.host import kad_messages
from mesh.p2p.host.kad_lookup import MAX_ASKED, MAX_STRANGERS, Lookup
from mesh.p2p.host.kad_messages import MAX_ADDRESSES, MAX_BYTES, MAX_PEERS, Kad, KadFault, decode, encode
from mesh.p2p.host.kad_table import (
    MAX_KEYS,
    MAX_KEYS_PER_PROVIDER,
    MAX_PROVIDERS_PER_KEY,
    RECORD_TTL_S,
    K,
    Records,
    Table,
    key_of,
    place_of,
    place_of_key,
)
from tests.kit.asking import identity
from tests.kit.effort import times

FUZZED = times(100_000, 20_000)
PEERS = [identity(number).peer_id for number in range(1, 120)]
OWN, KEY = PEERS[0], key_of("/mesh/lab/domain/mathematics")
AT = ("/ip4/192.0.2.7/tcp/4701",)
GOOD = [
    encode(Kad(kad_messages.FIND_NODE, KEY, dict.fromkeys(PEERS[:20], AT))),
    encode(Kad(kad_messages.GET_PROVIDERS, KEY, {PEERS[3]: AT}, {PEERS[4]: ()})),
    encode(Kad(kad_messages.ADD_PROVIDER, KEY, providers={PEERS[5]: AT})),
    encode(Kad(kad_messages.PING)),
]


class Bytes:
    """A stream that gives what it has in pieces."""

    def __init__(self, data: bytes, pieces: list[int]) -> None:
        self.data = data
        self.pieces = pieces

    async def read(self, count: int) -> bytes:
        size = min(count, self.pieces.pop(0) if self.pieces else len(self.data))
        data, self.data = self.data[:size], self.data[size:]
        return data


def messages_in(data: bytes, pieces: list[int]) -> list[Kad]:
    async def read_all() -> list[Kad]:
        stream, buffer, found = Bytes(data, list(pieces)), bytearray(), []
        while (message := await kad_messages.read(stream, buffer)) is not None:  # type: ignore[arg-type]
            found.append(message)
        return found

    return trio.run(read_all)


def is_bounded(message: Kad) -> bool:
    lists = (message.closer, message.providers)
    return all(len(peers) <= MAX_PEERS and all(len(at) <= MAX_ADDRESSES for at in peers.values()) for peers in lists)


def test_a_hundred_thousand_bent_messages_are_messages_or_faults() -> None:
    rng = random.Random(4)
    bodies = [good[2 if good[0] & 0x80 else 1 :] for good in GOOD]
    verdicts = {True: 0, False: 0}
    for _ in range(FUZZED):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(body))
            body[at : at + rng.randrange(2)] = rng.randbytes(rng.randrange(3))
            body = body or bytearray(1)
        try:
            assert is_bounded(decode(bytes(body)))
            verdicts[True] += 1
        except KadFault:
            verdicts[False] += 1
    assert min(verdicts.values()) > FUZZED / 100


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20))
@example(b"\xff\xff\xff\xff\xff", [])
@example(b"\x80\x80\x80\x80\x01", [1, 1, 1])
def test_whatever_is_streamed_gives_messages_a_fault_or_an_end(data: bytes, pieces: list[int]) -> None:
    with contextlib.suppress(KadFault, EOFError):
        assert all(map(is_bounded, messages_in(data, pieces)))


@given(st.lists(st.sampled_from(GOOD), max_size=5), st.lists(st.integers(1, 300), max_size=30))
def test_what_is_sent_arrives_however_it_is_cut(sent: list[bytes], pieces: list[int]) -> None:
    assert [encode(message) for message in messages_in(b"".join(sent), pieces)] == sent


def test_a_length_over_the_limit_is_refused_before_anything_is_kept() -> None:
    for size in (MAX_BYTES + 1, 1 << 26):
        claimed = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21 & 0x7F])
        with pytest.raises(KadFault, match="limit"):
            messages_in(claimed, [])


@settings(max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(0, 60))
def test_the_table_gives_the_nearest_and_newcomers_push_nobody_out(rng: random.Random, count: int) -> None:
    table, chosen = Table(OWN), rng.sample(PEERS[1:], count)
    kept = [peer for peer in chosen if table.add(peer, AT)]
    assert len(table) == len(kept)
    target = place_of_key(KEY)
    assert [peer for peer, _ in table.closest(KEY)] == sorted(kept, key=lambda peer: place_of(peer) ^ target)[:K]
    assert not any(table.add(peer, AT) for peer in kept)
    assert not table.add(OWN, AT)
    assert len(table) == len(kept)


def test_records_are_bounded_by_key_and_by_provider_and_expire() -> None:
    records = Records()
    assert sum(records.add(KEY, peer, AT, 0.0) for peer in PEERS) == MAX_PROVIDERS_PER_KEY
    greedy = PEERS[-1]
    assert sum(records.add(key_of(str(n)), greedy, AT, 0.0) for n in range(500)) == MAX_KEYS_PER_PROVIDER
    for peer in PEERS[:60]:
        for number in range(100):
            records.add(key_of(f"{peer} {number}"), peer, AT, 1.0)
    assert len(records) == MAX_KEYS
    assert records.of(KEY, RECORD_TTL_S - 1)
    assert not records.of(KEY, RECORD_TTL_S + 2)
    assert records.add(key_of("new"), greedy, AT, RECORD_TTL_S + 2)
    assert len(records) == 1


@settings(max_examples=200)
@given(st.randoms(use_true_random=False))
def test_a_walk_ends_whatever_it_is_told_and_asks_nobody_twice(rng: random.Random) -> None:
    lookup = Lookup(OWN, KEY, [(peer, AT) for peer in rng.sample(PEERS, rng.randrange(6))])
    trusted, asked, waiting = set(lookup.next(1 << 20)), [], []
    while not lookup.done:
        for peer in lookup.next(4):
            lookup.begin(peer)
            asked.append(peer)
            waiting.append(peer)
        assert 0 < len(waiting) <= 4
        peer = waiting.pop(rng.randrange(len(waiting)))
        if rng.random() < 0.3:
            lookup.failed(peer)
        else:
            lookup.take(peer, {other: AT * rng.randrange(2) for other in rng.sample(PEERS, rng.randrange(20))})
    assert len(asked) == len(set(asked)) <= MAX_ASKED
    assert OWN not in asked
    assert len(set(asked) - trusted) <= MAX_STRANGERS
