"""Logging in with a NATS ``.creds`` file or an nkey seed: the server's nonce is signed, the key never leaves.

https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
"""

import base64
import re

from nacl.encoding import RawEncoder
from nacl.signing import SigningKey

from mesh.errors import BrokerError

_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s*(\S+)\s*-+END NATS USER JWT")
_SEED = re.compile(r"\b(SU[A-Z2-7]{56})\b")
_USER_PREFIX = 20 << 3
_SEED_PREFIX_BYTES = 2
_SEED_BYTES = 32


def answer(credentials: str, nonce: str) -> dict[str, str]:
    """The fields of CONNECT that prove who we are. Raises BrokerError when ``credentials`` hold no user's seed."""
    found = _SEED.search(credentials)
    if found is None:
        raise BrokerError(
            "the broker's credentials hold no nkey seed of a user (SU…)",
            remedy="Use the .creds file that `nsc generate creds` writes, or a file with user and password as JSON.",
        )
    raw = base64.b32decode(found[1] + "=" * (-len(found[1]) % 8))
    key = SigningKey(raw[_SEED_PREFIX_BYTES : _SEED_PREFIX_BYTES + _SEED_BYTES])
    signature = key.sign(nonce.encode(), encoder=RawEncoder).signature
    signed = {"sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}
    jwt = _JWT.search(credentials)
    return {"jwt": jwt[1], **signed} if jwt is not None else {"nkey": _public(bytes(key.verify_key)), **signed}


def _public(key: bytes) -> str:
    body = bytes([_USER_PREFIX]) + key
    return base64.b32encode(body + _crc16(body).to_bytes(2, "little")).decode().rstrip("=")


def _crc16(data: bytes) -> int:
    """CRC-16/XMODEM."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return crc
