"""The Python client of a running node: ``async with Mesh.connect() as mesh: await mesh.ask("…")``.

``with`` in place of ``async with`` gives the same without asyncio (`mesh.api.sync`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import TimeoutError as NatsTimeout

from mesh.api.failures import RequestFailed
from mesh.api.messages import ACCESS, ACKNOWLEDGE, ASK, CANCEL, FORGET, KIND, STATUS, AccessChanged, NodeStatus
from mesh.api.pieces import How, OnText, Pieces, tell
from mesh.api.whole import whole
from mesh.config import default_home
from mesh.errors import NodeUnreachable
from mesh.events.readers import Credentials, load_credentials
from mesh.experts.forgetting import Forgotten
from mesh.experts.queries import Outcome
from mesh.home import Home
from mesh.ids import new_id

if TYPE_CHECKING:
    from mesh.api.sync import SyncMesh

T = TypeVar("T")
CONNECT_TIMEOUT_S = 3
REPLY_TIMEOUT_S = 10.0
# How long past the request's own deadline the node's word is waited for.
GRACE_S = 10.0
# Pieces that may be on their way here.
WINDOW = 32
LONGEST_S = 3600.0


class Mesh:
    """A connection to one node, usually the one on this machine. The same call asks near and far experts."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._client = Client()
        self._forbidden = ""
        self._left = False
        self._sync: SyncMesh | None = None

    @classmethod
    def connect(cls, home: Path | str | None = None, *, credentials: Credentials | None = None) -> "Mesh":
        """The node whose home is ``home`` (default: ``$MESH_HOME`` or the user's), or that has ``credentials``.

        Use the result as an async context manager. Raises NodeUnreachable when no node answers.
        """
        if credentials is not None:
            return cls(credentials)
        place = Home(Path(home) if home is not None else default_home())
        try:
            return cls(load_credentials(place, "operator"))
        except FileNotFoundError:
            raise place.never_ran() from None

    def __enter__(self) -> "SyncMesh":
        """The same without asyncio: ``with Mesh.connect() as mesh: mesh.ask("…")``."""
        from mesh.api.sync import SyncMesh  # it needs this module

        self._sync = SyncMesh(self)
        return self._sync.open()

    def __exit__(self, *_: object) -> None:
        assert self._sync is not None
        self._sync.close()

    async def __aenter__(self) -> "Mesh":
        self._left = False
        try:
            await self._client.connect(
                self._credentials.url,
                connect_timeout=CONNECT_TIMEOUT_S,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                error_cb=self._complained,
                **self._credentials.options(),
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise NodeUnreachable(
                f"no node answers at {self._credentials.url} ({str(error) or type(error).__name__})",
                remedy="Is it running? Start it with `mesh up`.",
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        await self._client.close()

    async def ask(
        self,
        content: str = "",
        *,
        domain: str = "auto",
        expert: str = "",
        strategy: str = "",
        policy: str = "",
        fan_out: int = 0,
        faults: int = 0,
        agreement: str = "",
        conversation: str = "",
        timeout: float = 0,
        delivery: str = "stream",
        cache: str = "",
        keep: str = "",
        split: str = "",
        parts: Sequence[str | Mapping[str, str]] = (),
        options: dict[str, Any] | None = None,
        on_text: OnText | None = None,
    ) -> Outcome:
        """Ask the mesh and return what came of it; empty or zero choices mean the node's configuration.

        ``delivery`` ``whole`` lets another expert take over at any time, ``stream`` only until the first piece;
        ``pieces`` is for an answer too long to be held: it goes to ``on_text`` alone, and the outcome has no text.
        ``cache``: ``on``, an answer that was given before to exactly this will do; ``off``: it will not.
        ``keep``: journals may keep no more of it than ``digest`` or ``sealed``.
        ``split``: ``auto``, ``always`` or ``never`` ask the parts of a text one by one, each of the best expert of its
        domain; ``parts`` are the parts, if you have them: texts, or ``{"content": …, "domain": …}``, which ``content``
        introduces.
        ``on_text`` is called, and awaited where it is a coroutine function, with every piece of the answer as it
        arrives; while it works the expert is held back. Cancelling the call cancels the request.
        Raises RequestFailed when there is no answer, NodeUnreachable when there is no node or the client is closed.
        """
        call = new_id()
        query = {
            "content": content,
            "domain": domain,
            "expert": expert,
            "strategy": strategy,
            "policy": policy,
            "fan_out": fan_out,
            "faults": faults,
            "agreement": agreement,
            "conversation": conversation,
            "timeout_s": timeout,
            "delivery": delivery,
            "cache": cache,
            "keep": keep or None,
            "split": split,
            "parts": [part if isinstance(part, str) else dict(part) for part in parts],
            "options": options or {},
        }
        message = _encoded(
            {"call": call, "query": query, "stream": on_text is not None, "watch": True, "window": WINDOW}
        )
        try:
            return await self._stream_reply(message, (timeout or LONGEST_S) + GRACE_S, on_text)
        except NatsTimeout as error:
            raise NodeUnreachable("the node did not answer in time", remedy="Look at `mesh status`.") from error
        except nats.errors.MaxPayloadError as error:
            limit = self._client.max_payload
            raise RequestFailed("invalid", f"the request has {len(message)} bytes; the broker takes {limit}") from error
        except nats.errors.Error as error:
            raise NodeUnreachable(
                f"the connection to the node was lost while it worked on the request ({error})",
                remedy="`mesh requests` tells what became of it.",
            ) from error
        except (RequestFailed, NodeUnreachable):
            raise
        except BaseException:  # cancelled, or ``on_text`` takes no more: nobody waits for the answer
            await self._cancel(call)
            raise

    def stream(self, content: str = "", **how: Unpack[How]) -> Pieces:
        """Ask, and iterate over the pieces of the answer as they come: ``async for piece in mesh.stream("…")``.

        ``how`` is as for `ask`. Its ``outcome`` is there after the last piece. What `ask` raises is raised by the
        iteration. Leaving the loop early takes the request back: at once with
        ``async with mesh.stream("…") as pieces``.
        """
        return Pieces(lambda on_text: self.ask(content, on_text=on_text, **how))

    async def _stream_reply(self, message: bytes, patience: float, on_text: OnText | None) -> Outcome:
        async with self._replies(ASK, message) as replies:
            while True:
                reply = await replies.next_msg(timeout=patience)
                _raise_error(reply)
                kind = (reply.headers or {}).get(KIND)
                if kind not in ("chunk", "alive"):
                    return msgspec.json.decode(reply.data, type=Outcome)
                if kind == "chunk":
                    if on_text is not None:
                        await tell(on_text, reply.data.decode())
                    await whole(self._client.publish(reply.reply))

    @asynccontextmanager
    async def _replies(self, subject: str, message: bytes) -> AsyncIterator[Subscription]:
        if not self._client.is_connected:
            raise NodeUnreachable(
                f"there is no connection to the node at {self._credentials.url}",
                remedy="Use `async with Mesh.connect() as mesh:`, or `with` where there is no asyncio.",
            )
        inbox, cancellations = self._client.new_inbox(), _cancellations()
        replies = await self._client.subscribe(inbox, pending_msgs_limit=0, pending_bytes_limit=0)
        try:
            await whole(self._client.publish(subject, message, reply=inbox))
            await whole(self._client.flush())  # the server refuses what we may not do before it answers this
            if self._forbidden:
                raise RequestFailed("forbidden", f"these credentials may not do that: {self._forbidden}")
            yield replies
        except nats.errors.Error:  # nats-py says so, too, to who was cancelled while the client is closed
            if _cancellations() > cancellations:
                raise asyncio.CancelledError from None
            if self._left:
                raise _closed() from None
            raise
        finally:
            if not self._client.is_closed:
                await whole(replies.unsubscribe())

    async def _complained(self, error: Exception) -> None:
        """Lost connections reach the caller through the call that they break; a refusal has to be passed on."""
        if "permissions violation" in str(error).lower():
            self._forbidden = str(error)

    async def _cancel(self, call: str) -> None:
        if not self._client.is_closed:
            await whole(self._client.publish(CANCEL, msgspec.json.encode({"call": call})))
            await whole(self._client.flush())

    async def status(self) -> NodeStatus:
        """What the node says of itself."""
        return await self._request(STATUS, {}, NodeStatus)

    async def acknowledge(self, alert: str, *, actor: str, note: str = "") -> None:
        """Acknowledge an open alert. Raises RequestFailed when there is no such alert."""
        await self._request(ACKNOWLEDGE, {"alert": alert, "actor": actor, "note": note}, dict[str, str])

    async def access(self, action: str, party: str, *, actor: str, reason: str = "") -> AccessChanged:
        """``block``, ``unblock``, ``allow`` or ``disallow`` a PeerId, an address or a network, in force on return.

        Raises RequestFailed for what is no rule, or cannot be taken back.
        """
        message = {"action": action, "party": party, "actor": actor, "reason": reason}
        return await self._request(ACCESS, message, AccessChanged)

    async def forget(
        self,
        requests: Sequence[str] = (),
        *,
        older_than_s: float | None = None,
        caller: str = "",
        actor: str,
    ) -> Forgotten:
        """Erase the keys of what is sealed of these requests, or of all that are older, or a caller's.

        On return nobody can read them, and the journal says so. Raises RequestFailed where the disk refuses.
        """
        message = {"requests": list(requests), "older_than_s": older_than_s, "caller": caller, "actor": actor}
        return await self._request(FORGET, message, Forgotten, patience=LONGEST_S)

    async def _request(
        self, subject: str, message: dict[str, Any], result: type[T], patience: float = REPLY_TIMEOUT_S
    ) -> T:
        try:
            async with self._replies(subject, msgspec.json.encode(message)) as replies:
                reply = await replies.next_msg(timeout=patience)
        except nats.errors.Error as error:  # no responders, no answer in time, connection lost
            raise _no_answer(self._credentials.url) from error
        _raise_error(reply)
        return msgspec.json.decode(reply.data, type=result)


def _cancellations() -> int:
    """How often who runs this was told to stop."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _encoded(message: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError as error:
        raise RequestFailed("invalid", f"the request is not Unicode text: {error.reason}") from None


def _closed() -> NodeUnreachable:
    return NodeUnreachable(
        "the client was closed while the call was open, which takes a request back",
        remedy="Await every call before the end of `async with Mesh.connect() as mesh:`.",
    )


def _no_answer(url: str) -> NodeUnreachable:
    return NodeUnreachable(
        f"the NATS server at {url} runs, but no node answers there",
        remedy="The node may be starting or stopping: try again, then look at its log.",
    )


def _raise_error(reply: Msg) -> None:
    headers = reply.headers or {}
    if headers.get("Status") == "503":
        raise _no_answer("its address")
    if "Nats-Service-Error" not in headers:
        return
    try:
        details = msgspec.json.decode(reply.data, type=dict[str, str])
    except msgspec.DecodeError:
        details = {}
    raise RequestFailed(
        details.get("kind", "failed"),
        details.get("message", headers["Nats-Service-Error"]),
        details.get("request", ""),
    )


__all__ = ["Mesh", "Outcome", "RequestFailed"]
