"""Ending connections from our side, at once or after a moment in which the peer may read why."""

import structlog

from mesh.clock import Clock
from mesh.p2p.door import Door
from mesh.p2p.overlay import Overlay, OverlayDown
from mesh.p2p.tasks import TaskOwner

log = structlog.get_logger(__name__)


class Parting:
    """Disconnects peers, in tasks of ``tasks``. ``farewell_s`` is how long the peer keeps its streams."""

    def __init__(self, overlay: Overlay, door: Door, tasks: TaskOwner, clock: Clock) -> None:
        self._overlay = overlay
        self._door = door
        self._tasks = tasks
        self._clock = clock

    def disconnect(self, peer: str, reason: str, *, farewell_s: float = 0.0) -> None:
        """End what connections there are; the peer may come back."""
        self._tasks.start(self._disconnect(peer, reason, farewell_s), f"disconnect {peer}")

    def expel(self, peer: str, reason: str, *, farewell_s: float = 0.0) -> None:
        """End what connections there are, and keep the peer out for a while."""
        self._tasks.start(self._expel(peer, reason, farewell_s), f"keep out {peer}")

    async def _expel(self, peer: str, reason: str, farewell_s: float) -> None:
        await self._disconnect(peer, reason, farewell_s)
        await self._door.keep_out(peer)

    async def _disconnect(self, peer: str, reason: str, farewell_s: float) -> None:
        if farewell_s:
            await self._clock.sleep(farewell_s)
        try:
            await self._overlay.disconnect(peer, reason)
        except OverlayDown:
            log.debug("the overlay is down, and with it the connection", peer=peer)
