"""Whatever datagrams come: a connection that lives, or one that is over; and never an error."""

import random

import pytest
import trio
from aioquic.buffer import Buffer

from mesh.p2p.host.quic.machine import CONNECTION_WINDOW_BYTES
from tests.kit.effort import times
from tests.kit.quic_pair import CLIENT, SERVER, Pair, inside_trio


def bent(rng: random.Random, data: bytes) -> bytes:
    """A datagram with bytes flipped, cut, doubled or moved."""
    bent = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(bent)) if bent else 0
        match rng.randrange(5):
            case 0 if bent:
                bent[at] ^= 1 << rng.randrange(8)
            case 1:
                del bent[at : at + rng.randrange(40)]
            case 2:
                bent[at:at] = rng.randbytes(rng.randrange(40))
            case 3:
                bent[at:at] = bent[: rng.randrange(60)]
            case _:
                del bent[rng.randrange(len(bent) + 1) :]
    return bytes(bent)


@pytest.mark.parametrize("seed", range(times(40, 2)))
def test_bent_datagrams_harm_nobody(seed: int) -> None:
    """Keys keep strangers out: what was bent on its way is dropped, and the rest arrives."""
    rng = random.Random(seed)

    async def main() -> None:
        pair = Pair()
        heard = {CLIENT: [b"\0" * 20], SERVER: [b"\0" * 20]}

        def noise() -> None:
            for end in (pair.client, pair.server):
                for _ in range(3):
                    end.muxed.receive(bent(rng, rng.choice(heard[end.own])), end.muxed.wire.get_remote_address())
                end.muxed.flush()

        pair.client.machine.connect(SERVER, trio.current_time())
        pair.client.muxed.flush()
        pair.server.muxed.receive(pair.client.sent[0], CLIENT)
        for step in range(60):
            for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
                heard[other.own] += end.sent
                end.tick()
            noise()
            pair.carry()
            await trio.sleep(0.02)
            if step == 30:
                stream = await pair.client.muxed.open_stream()
                await stream.write(rng.randbytes(5000))
        assert not pair.client.muxed.is_closed
        assert not pair.server.muxed.is_closed
        assert len(await (await pair.server.muxed.accept_stream()).read()) > 0

    inside_trio(main)


@pytest.mark.parametrize("seed", range(times(400, 16)))
def test_bent_frames_end_at_most_the_connection(seed: int) -> None:
    """A peer has the keys, and may say anything with them."""
    rng = random.Random(f"frames {seed}")

    async def main() -> None:
        pair = Pair()
        pair.begin()
        await pair.later()
        for number in range(3):
            stream = await pair.client.muxed.open_stream()
            await stream.write(bytes([number]) * 2000)
        pair.carry()
        await (await pair.server.muxed.accept_stream()).write(b"answer" * 100)
        victim, liar = (pair.server, pair.client) if seed % 2 else (pair.client, pair.server)
        for _ in range(30):
            if victim.muxed.is_closed:
                break
            pair.say(liar, victim, (bent(rng, _frames(rng)) if rng.random() < 0.05 else _frames(rng))[:1100])
            if rng.random() < 0.2:
                await pair.later(0.05, 2)
        await pair.later(1, 3)
        if victim.muxed.is_closed:
            assert victim.muxed._streams == {}
            assert victim.muxed not in pair.budget._held
        else:
            assert 0 <= victim.muxed.held() <= CONNECTION_WINDOW_BYTES

    inside_trio(main)


# How many numbers a frame begins with, and how many bytes may follow; the last number says how many for some.
SHAPES = {
    0x01: (0, 0), 0x02: (4, 0), 0x03: (7, 0), 0x04: (3, 0), 0x05: (2, 0), 0x06: (2, -1), 0x08: (1, 20), 0x09: (1, 20),
    0x0E: (3, -1), 0x0F: (3, -1), 0x10: (1, 0), 0x11: (2, 0), 0x12: (1, 0), 0x13: (1, 0), 0x14: (1, 0), 0x15: (2, 0),
    0x16: (1, 0), 0x18: (3, 24), 0x19: (1, 0), 0x1A: (0, 8), 0x1B: (0, 8),
}  # fmt: skip
ANY = [*SHAPES, 0x00, 0x07, 0x0A, 0x0C, 0x17, 0x1C, 0x1D, 0x1E, 0x1F, 0x30, 0x31, 0x4000]
NUMBERS = [*range(10), 12, 16, 188, 192, 1 << 10, 1 << 20, 1 << 23, 1 << 40, (1 << 62) - 1]


def _frames(rng: random.Random) -> bytes:
    """A few frames of an established connection, mostly ones that could be meant."""
    buffer = Buffer(capacity=2000)
    for _ in range(rng.randint(1, 2)):
        kind = rng.choice(ANY) if rng.random() < 0.02 else rng.choice([*SHAPES])
        numbers, follow = SHAPES.get(kind, (rng.randint(0, 4), 20))
        said = [rng.choice(NUMBERS[:12] if rng.random() < 0.9 else NUMBERS) for _ in range(numbers)]
        if kind in (0x02, 0x03):
            said[2] = 0
        if kind == 0x18:
            said[2] = 8
        buffer.push_uint_var(kind)
        for number in said:
            buffer.push_uint_var(number)
        buffer.push_bytes(rng.randbytes(said[-1] % 100 if follow < 0 else follow))
    return buffer.data
