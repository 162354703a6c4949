"""The first bytes of every libp2p connection, whoever made it: multistream-select's own name."""

import trio

from mesh.p2p.host.channels import Channel, SocketChannel

GREETING = b"\x13/multistream/1.0.0\n"


class Greeting:
    """Checks, byte by byte as they come, that a connection begins as it must."""

    def __init__(self) -> None:
        self._seen = 0

    @property
    def begun(self) -> bool:
        """Whether anything came."""
        return self._seen > 0

    def holds(self, data: bytes | bytearray) -> bool:
        """Whether ``data``, which follows what was given before, still agrees."""
        part = data[: len(GREETING) - self._seen]
        expected = GREETING[self._seen : self._seen + len(part)]
        self._seen += len(part)
        return part == expected


class GreetedChannel:
    """A `Channel` that ends at once when the other side speaks something else."""

    def __init__(self, below: Channel) -> None:
        self._below = below
        self._greeting = Greeting()

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes | bytearray:
        """See `Channel`."""
        data = await self._below.receive_some(max_bytes)
        if not self._greeting.holds(data):
            raise trio.BrokenResourceError(
                "its first bytes are not multistream's: another protocol, or a private network whose key we don't have"
            )
        return data

    def send_now(self, data: bytes | memoryview) -> int:
        """See `SocketChannel`; 0 over anything else."""
        return self._below.send_now(data) if isinstance(self._below, SocketChannel) else 0

    async def send_all(self, data: bytes, /) -> None:
        """See `Channel`."""
        await self._below.send_all(data)
