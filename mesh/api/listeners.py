"""Who waits for an answer over NATS: whether anybody does, and how much of it is still on its way."""

import asyncio
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from mesh.api.messages import KIND, TAKEN
from mesh.api.whole import whole

ALIVE_S = 1.0


class Listener:
    """The subject that an answer goes to. ``window`` pieces may be on their way; 0: as many as there are.

    Every message to it has a reply subject of its own. Where nobody subscribes the NATS server itself answers there,
    with the status 503: then ``gone`` is called. A caller that answers there has taken the piece.
    """

    def __init__(self, client: Client, subject: str, taken: str, window: int, gone: Callable[[], object]) -> None:
        self._client = client
        self._subject = subject
        self._taken = taken
        self._gone = gone
        self._room = asyncio.Semaphore(window) if window else None
        self._quiet = True

    async def send(self, text: str) -> None:
        """Send a piece, once there is room for it."""
        if self._room is not None:
            await self._room.acquire()
        await self._publish(text.encode(), "chunk")

    async def watch(self) -> None:
        """Say that the node is at work whenever nothing was said for a while, until cancelled."""
        while True:
            await asyncio.sleep(ALIVE_S)
            if self._quiet:
                await self._publish(b"", "alive")
            self._quiet = True

    def heard(self, message: Msg) -> None:
        """What came back from the subject: a piece was taken, or nobody is there."""
        if (message.headers or {}).get("Status") == "503":
            self._gone()
        elif self._room is not None:
            self._room.release()

    async def _publish(self, data: bytes, kind: str) -> None:
        self._quiet = False
        await whole(self._client.publish(self._subject, data, reply=self._taken, headers={KIND: kind}))


class Listeners:
    """All of them, by the last part of the subject ``mesh.api.taken.*`` that they are heard on."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._by_token: dict[str, Listener] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Listen."""
        self._subscription = await self._client.subscribe(f"{TAKEN}.*", cb=self._heard)

    def add(self, token: str, subject: str, window: int, gone: Callable[[], object]) -> Listener:
        """Somebody who waits, until `remove`."""
        self._by_token[token] = Listener(self._client, subject, f"{TAKEN}.{token}", window, gone)
        return self._by_token[token]

    def remove(self, token: str) -> None:
        """The answer is out."""
        self._by_token.pop(token, None)

    async def _heard(self, message: Msg) -> None:
        listener = self._by_token.get(message.subject.rpartition(".")[2])
        if listener is not None:
            listener.heard(message)
