"""Private networks: everything that a connection carries is enciphered with a key that all members share.

libp2p's pre-shared key protector, version 1: each side sends a random nonce of 24 bytes, then XSalsa20's keystream
over its bytes. It has no integrity and proves nothing by itself: the security protocol inside does.
"""

import os

import trio
from Crypto.Cipher.Salsa20 import Salsa20Cipher

from mesh.p2p.host.channels import Channel
from mesh.p2p.host.greeting import GREETING, Greeting
from mesh.p2p.host.salsa import NONCE_BYTES, xsalsa20


class NetworkKeyDiffers(trio.BrokenResourceError):
    """The other side is not of our private network. ``value`` says what it has instead of our key."""

    def __init__(self, value: str) -> None:
        super().__init__(f"its network key is not ours ({value})")
        self.value = value


class PrivateChannel:
    """See `Channel`; ends with `NetworkKeyDiffers` as soon as the other side shows that it has another key, or none."""

    def __init__(self, below: Channel, key: bytes) -> None:
        self._below = below
        self._key = key
        self._reading: Salsa20Cipher | None = None
        self._writing: Salsa20Cipher | None = None
        self._head = b""
        self._greeting = Greeting()

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """See `Channel`."""
        while True:
            data = await self._receive(max_bytes)
            if not data:
                return b""
            plain = self._opened(data)
            if plain:
                return plain

    async def _receive(self, max_bytes: int | None) -> bytes | bytearray:
        try:
            data = await self._below.receive_some(max_bytes)
        except trio.BrokenResourceError:
            data = b""
            if self._greeting.begun:
                raise
        if not data and not self._greeting.begun:
            raise NetworkKeyDiffers("it hung up before it showed that it has our key: another key, or none")
        return data

    def _opened(self, data: bytes | bytearray) -> bytes:
        if self._reading is None:
            self._head += data
            if self._head.startswith(GREETING):
                raise NetworkKeyDiffers("no key")
            if len(self._head) < NONCE_BYTES:
                return b""
            self._reading = xsalsa20(self._key, self._head[:NONCE_BYTES])
            data, self._head = self._head[NONCE_BYTES:], b""
        plain = self._reading.decrypt(data)
        if not self._greeting.holds(plain):
            raise NetworkKeyDiffers("another key")
        return plain

    async def send_all(self, data: bytes, /) -> None:
        """See `Channel`."""
        nonce = b""
        if self._writing is None:
            nonce = os.urandom(NONCE_BYTES)
            self._writing = xsalsa20(self._key, nonce)
        await self._below.send_all(nonce + self._writing.encrypt(data))
