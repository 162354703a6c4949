"""Which streams are sealed, and what is put into their hellos for it."""

import os
from collections import ChainMap
from collections.abc import Callable, Mapping
from random import Random

import structlog

from mesh.clock import Clock
from mesh.config import OverlayConfig
from mesh.errors import PeerMisbehaved
from mesh.identity import Identity
from mesh.p2p import messages
from mesh.p2p.calling import Calling
from mesh.p2p.calls import CallFailed, Handler
from mesh.p2p.cover import jitter, next_cover
from mesh.p2p.messages import Hello
from mesh.p2p.sealed_calls import COVER, SealedCalling, sealed_handler
from mesh.p2p.sealing import KEY_BYTES, Seals, agree, stream_key
from mesh.p2p.session import SessionRefused
from mesh.p2p.tasks import TaskOwner

_COVER_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


class Sealing:
    """Seals the streams of a node whose setting ``[overlay] seal`` is ``prefer`` or ``require``."""

    def __init__(self, identity: Identity, config: OverlayConfig, clock: Clock, rng: Random, tasks: TaskOwner) -> None:
        self.identity = identity
        self.required = config.seal == "require"
        self._jitter_s = config.seal_jitter_ms / 1000
        self._cover_per_s = config.seal_cover_per_s
        self._clock = clock
        self._rng = rng
        self._tasks = tasks

    def begin(self, hello: Hello) -> "SealedStream":
        """A stream begins: it gets a key of its own, and a hello that holds it."""
        return SealedStream(self, hello)

    def delay(self) -> float:
        """Seconds that the next call or answer waits."""
        return jitter(self._rng, self._jitter_s)

    def start_cover(self, calls: SealedCalling, peer: str) -> None:
        """Make calls that mean nothing on a stream until it ends, if that is wanted."""
        if self._cover_per_s > 0:
            self._tasks.start(self._cover(calls), f"cover the calls to {peer}")

    async def _cover(self, calls: SealedCalling) -> None:
        while True:
            cover = next_cover(self._rng, self._cover_per_s)
            await self._clock.sleep(cover.wait_s)
            header = {"answer_bytes": cover.answer_bytes}
            try:
                await calls.call(COVER, header, bytes(cover.request_bytes), _COVER_TIMEOUT_S, None)
            except CallFailed as failure:
                if failure.kind in ("disconnected", "protocol"):
                    return
                log.debug("a covering call failed", kind=failure.kind, message=failure.message)


class SealedStream:
    """One stream: ``hello`` is what we say on it."""

    def __init__(self, sealing: Sealing, hello: Hello) -> None:
        self._sealing = sealing
        self._key = stream_key(os.urandom(KEY_BYTES))
        self.hello = hello.model_copy(update={"seal": self._key.public.hex()})

    def calls(
        self, calling: Calling, theirs: Hello, peer: str, on_fault: Callable[[PeerMisbehaved], None]
    ) -> SealedCalling | None:
        """What makes our calls; None where the peer does not seal. Raises SessionRefused, PeerMisbehaved."""
        seals = self._agree(theirs, peer, opener=True)
        if seals is None:
            return None
        calls = SealedCalling(calling, seals, delay=self._sealing.delay, on_fault=on_fault)
        self._sealing.start_cover(calls, peer)
        return calls

    def handlers(self, handlers: Mapping[str, Handler], theirs: Hello, peer: str) -> Mapping[str, Handler]:
        """What answers the peer's calls. Raises SessionRefused, PeerMisbehaved."""
        seals = self._agree(theirs, peer, opener=False)
        if seals is None:
            return handlers
        sealed = {messages.SEALED: sealed_handler(handlers, seals, delay=self._sealing.delay)}
        return sealed if self._sealing.required else ChainMap(sealed, dict[str, Handler](), handlers)  # type: ignore[arg-type]

    def _agree(self, theirs: Hello, peer: str, *, opener: bool) -> Seals | None:
        if theirs.seal is not None:
            return agree(self._sealing.identity, self._key, peer, theirs.seal, opener=opener)
        if self._sealing.required:
            what = "the peer does not seal what it says, which is required here"
            raise SessionRefused("seal", what, limit="require", value="off", final=True)
        return None
