"""Bodies of calls, compressed with zstd where both sides of a stream offer it.

A packed body is exactly one zstd frame that states its content size. What it unpacks to was announced and admitted
before, so that a bomb is no more than a body of the size that it claims.
"""

import asyncio

import zstandard

from mesh.errors import PeerMisbehaved

FEATURE = "zstd"
# The fastest level: 300 to 500 MB/s on text, and a third to a fifth of its size.
_LEVEL = 1
# What compresses to more than this share is sent as it is.
_WORTH = 0.9
_SAMPLE_BYTES = 64 * 1024
# Up to this size it takes less than a millisecond; more is done beside the event loop.
_INLINE_BYTES = 256 * 1024


async def packed(body: bytes) -> bytes | None:
    """``body`` as a zstd frame; None when it is hardly smaller, so that it had better be sent as it is."""
    sample = body[:_SAMPLE_BYTES]
    tried = _compress(sample)
    if len(tried) > _WORTH * len(sample):
        return None
    if len(sample) == len(body):
        return tried
    whole = await asyncio.to_thread(_compress, body) if len(body) > _INLINE_BYTES else _compress(body)
    return whole if len(whole) <= _WORTH * len(body) else None


async def unpacked(data: bytes, plain_bytes: int) -> bytes:
    """What a peer packed, which it said to be ``plain_bytes`` long. Raises PeerMisbehaved("compression")."""
    if plain_bytes > _INLINE_BYTES:
        return await asyncio.to_thread(unpack, data, plain_bytes)
    return unpack(data, plain_bytes)


def unpack(data: bytes, plain_bytes: int) -> bytes:
    """As `unpacked`; never holds more than ``plain_bytes`` of it, whatever ``data`` says."""
    try:
        stated = zstandard.get_frame_parameters(data).content_size
        if stated != plain_bytes:
            raise PeerMisbehaved("compression", f"a zstd frame of {stated} bytes where {plain_bytes} were announced")
        plain = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PeerMisbehaved("compression", f"what was sent as zstd is none: {str(error)[:200]}") from None
    if len(plain) != plain_bytes:
        raise PeerMisbehaved("compression", f"{len(plain)} bytes where {plain_bytes} were announced")
    return plain


def _compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(data)
