"""What only a node has, the overlay and the broker, and how its absence is told."""

from typing import NoReturn

from mesh.api.failures import RequestFailed
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit

_REMEDY = "Run a node (`mesh up`) and connect to it with mesh.api.client.Mesh; without one, `local_only` is what works."


class NeedsNode(RequestFailed):
    """It takes other nodes, or what a node runs beside its experts: ``kind`` is ``needs_node``."""

    def __init__(self, what: str, request: str = "") -> None:
        super().__init__("needs_node", what, request, remedy=_REMEDY)


class NodeCalls:
    """The calls of `mesh.api.client.Mesh` that only a node can answer; each raises NeedsNode."""

    async def status(self) -> NoReturn:
        """A node says here how its processes, its overlay and its broker do."""
        raise NeedsNode("there is no node here whose status could be told")

    async def acknowledge(self, alert: str, **_who: str) -> NoReturn:
        """A node's health monitor raises alerts."""
        raise NeedsNode(f"the alert {alert!r} cannot be acknowledged: nothing watches health here")

    async def access(self, action: str, party: str, **_who: str) -> NoReturn:
        """A node's overlay keeps out whom it is told to."""
        raise NeedsNode(f"{action} {party}: there is no overlay here, so nobody comes in")


class NoPeers:
    """`mesh.experts.ports.RemoteAsk` where there is no overlay."""

    async def ask(self, peer: str, call: Call, emit: Emit | None) -> Answer:
        """See `RemoteAsk.ask`. Raises AttemptFailed."""
        del emit
        raise AttemptFailed("disconnected", f"{call.expert} of {peer} cannot be asked: there is no overlay here")
