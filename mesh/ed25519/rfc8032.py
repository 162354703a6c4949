"""Ed25519 in Python alone, after RFC 8032, sections 5.1 and 6: for WebAssembly, where there is no libsodium.

It gives the signatures that libsodium gives and refuses what libsodium refuses: keys and points of small order, and
encodings that are not canonical. It takes milliseconds (in WebAssembly tens of them), and not always the same: do not
let whom you don't trust measure how long this signs.
"""

from functools import lru_cache
from hashlib import sha512

# The field, the order of the base point, and the curve's constant: section 5.1.
_P = 2**255 - 19
_Q = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_SIGN_BIT = 1 << 255

# A point (x, y) as (X, Y, Z, T) with x = X/Z, y = Y/Z and x·y = T/Z: section 5.1.4.
_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)


def public_key_of_seed(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    return _encoded(_times(_secrets(seed)[0], _BASE))


def sign(seed: bytes, public_key: bytes, message: bytes) -> bytes:
    """The 64-byte signature of ``message`` by the key pair: section 5.1.6."""
    scalar, prefix = _secrets(seed)
    nonce = _hashed(prefix, message)
    commitment = _encoded(_times(nonce, _BASE))
    challenge = _hashed(commitment, public_key, message)
    return commitment + ((nonce + challenge * scalar) % _Q).to_bytes(32, "little")


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made with the private half of ``public_key``: section 5.1.7."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key = _decoded(public_key)
    commitment, response = signature[:32], int.from_bytes(signature[32:], "little")
    point = _decoded(commitment)
    if key is None or point is None or response >= _Q or _is_small(key) or _is_small(point):
        return False
    challenge = _hashed(commitment, public_key, message)
    return _encoded(_plus(_times(response, _BASE), _times(_Q - challenge, key))) == commitment


def _secrets(seed: bytes) -> tuple[int, bytes]:
    """The secret scalar and the prefix of nonces: section 5.1.5."""
    expanded = sha512(seed).digest()
    scalar = int.from_bytes(expanded[:32], "little") & (2**254 - 8) | 2**254
    return scalar, expanded[32:]


def _hashed(*parts: bytes) -> int:
    return int.from_bytes(sha512(b"".join(parts)).digest(), "little") % _Q


def _plus(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    total = _NEUTRAL
    while scalar:
        if scalar & 1:
            total = _plus(total, point)
        point = _plus(point, point)
        scalar >>= 1
    return total


def _is_small(point: _Point) -> bool:
    """Whether eight times the point is nothing."""
    x, y, z, _ = _times(8, point)
    return x % _P == 0 and (y - z) % _P == 0


def _encoded(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


@lru_cache(maxsize=256)
def _decoded(encoded: bytes) -> _Point | None:
    """The point of an encoding; None for what is not the one encoding of a point."""
    number = int.from_bytes(encoded, "little")
    y, odd = number & (_SIGN_BIT - 1), number >> 255
    if y >= _P:
        return None
    x = _x_of(y)
    if x is None or (x == 0 and odd):
        return None
    if x & 1 != odd:
        x = _P - x
    return x, y, 1, x * y % _P


def _x_of(y: int) -> int | None:
    """A square root of x² = (y² - 1) / (d·y² + 1), if there is one: section 5.1.3."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    root = pow(square, (_P + 3) // 8, _P)
    if (root * root - square) % _P:
        root = root * _SQRT_MINUS_1 % _P
    return None if (root * root - square) % _P else root


def _base() -> _Point:
    point = _decoded((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point


_BASE = _base()
