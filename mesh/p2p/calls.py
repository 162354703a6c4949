"""What one node asks of another: the Python side of a call, without the wire."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from mesh.errors import MeshError

# Whether another peer may succeed where this call failed, unless who raises it knows better.
_RETRYABLE = {
    "overloaded": True,
    "expired": False,
    "cancelled": False,
    "unknown_method": True,
    "invalid": False,
    "failed": True,
    "disconnected": True,
    "protocol": True,
}


class CallFailed(MeshError):
    """A call gave no result.

    ``kind`` is one of the protocol's own (``overloaded``, ``expired``, ``cancelled``, ``unknown_method``,
    ``invalid``, ``failed``, ``disconnected``, ``protocol``) or any that a handler raised; ``retryable`` says whether
    another peer may succeed, ``retry_after_s`` after how many seconds the same one may; 0: not known.
    """

    def __init__(self, kind: str, message: str, *, retryable: bool | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retryable = _RETRYABLE.get(kind, False) if retryable is None else retryable
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        return f"CallFailed({self.kind!r}, {self.message!r}, retryable={self.retryable})"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call gave: a small JSON object and, apart from it, bytes."""

    header: Mapping[str, JsonValue]
    body: bytes = b""


class InboundCall:
    """A call that a peer made of us. ``timeout_s`` is what was left of its deadline when it arrived."""

    __slots__ = ("body", "header", "method", "peer", "timeout_s")

    def __init__(self, peer: str, method: str, header: Mapping[str, JsonValue], body: bytes, timeout_s: float) -> None:
        self.peer = peer
        self.method = method
        self.header = header
        self.body = body
        self.timeout_s = timeout_s

    @abstractmethod
    async def send(self, chunk: bytes) -> None:
        """Send a piece of the answer ahead of the reply; waits while the caller is slow to take them."""


# Raises CallFailed to answer with an error; its task is cancelled when the caller cancels, when the deadline
# passes, and when the connection is lost.
Handler = Callable[[InboundCall], Awaitable[Reply]]

# Takes a piece of a streamed answer; awaiting it is how back-pressure reaches the peer.
OnChunk = Callable[[bytes], Awaitable[None]]
