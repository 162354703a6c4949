"""XSalsa20, the cipher of libp2p's private networks. py-libp2p's own has 8-byte nonces, which nobody else understands.

D. J. Bernstein, "Extending the Salsa20 nonce" (2011): a key of its own for each nonce's first 16 bytes, by HSalsa20,
and Salsa20 with the last 8.
"""

import struct

from Crypto.Cipher import Salsa20
from Crypto.Cipher.Salsa20 import Salsa20Cipher

KEY_BYTES = 32
NONCE_BYTES = 24
_MASK = 0xFFFFFFFF
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
# A double round of Salsa20: columns, then rows. Each quarter round names the words that it mixes.
_DOUBLE_ROUND = (
    (0, 4, 8, 12),
    (5, 9, 13, 1),
    (10, 14, 2, 6),
    (15, 3, 7, 11),
    (0, 1, 2, 3),
    (5, 6, 7, 4),
    (10, 11, 8, 9),
    (15, 12, 13, 14),
)


def xsalsa20(key: bytes, nonce: bytes) -> Salsa20Cipher:
    """A keystream that goes on where the last call left it. Raises ValueError for a key or nonce of wrong length."""
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(f"XSalsa20 takes a key of {KEY_BYTES} and a nonce of {NONCE_BYTES} bytes")
    return Salsa20.new(key=hsalsa20(key, nonce[:16]), nonce=nonce[16:])


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """The key that belongs to the first 16 bytes of a nonce."""
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", nonce)
    x = [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]
    for _ in range(10):
        for a, b, c, d in _DOUBLE_ROUND:
            x[b] ^= _rotated(x[a] + x[d], 7)
            x[c] ^= _rotated(x[b] + x[a], 9)
            x[d] ^= _rotated(x[c] + x[b], 13)
            x[a] ^= _rotated(x[d] + x[c], 18)
    return struct.pack("<8I", x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9])


def _rotated(word: int, bits: int) -> int:
    word &= _MASK
    return ((word << bits) | (word >> (32 - bits))) & _MASK
