"""What the overlay process reports, in order: while a restart is not reported yet, what follows it waits."""

from collections.abc import Callable

import structlog

from mesh.p2p.overlay import OverlayHandler

log = structlog.get_logger(__name__)

Delivery = Callable[[OverlayHandler], None]


class Deliveries:
    """Tells the handler, or holds back until `release`, as it does at first. Without a handler nothing is told."""

    def __init__(self) -> None:
        self.handler: OverlayHandler | None = None
        self._held: list[Delivery] | None = []

    def tell(self, deliver: Delivery) -> None:
        """Call ``deliver(handler)``, now or in its turn."""
        if self._held is None:
            self._call(deliver)
        else:
            self._held.append(deliver)

    def tell_first(self, deliver: Delivery) -> None:
        """Call ``deliver(handler)`` before everything that is held back."""
        self._call(deliver)

    def hold(self) -> None:
        """Hold back from now on; again: no-op."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Tell what was held back, and hold back no more."""
        held, self._held = self._held, None
        for deliver in held or ():
            self._call(deliver)

    def _call(self, deliver: Delivery) -> None:
        if self.handler is None:
            return
        try:
            deliver(self.handler)
        except Exception:
            log.exception("the node failed to take in what the overlay reported")
