"""What a running node can be told and asked through its API."""

import os
from collections.abc import Callable
from typing import Any

from mesh import __version__
from mesh.api.messages import AccessChanged, AccessMessage, ForgetMessage, NodeStatus
from mesh.clock import Clock
from mesh.config import Config
from mesh.errors import MeshError
from mesh.events.journal import Journal
from mesh.experts.calls import Emit
from mesh.experts.forgetting import Forgetter, Forgotten
from mesh.experts.host import LocalExperts
from mesh.experts.queries import Outcome
from mesh.experts.requests import Requests
from mesh.health.monitor import HealthMonitor
from mesh.p2p.access_control import AccessControl
from mesh.p2p.overlay import Overlay
from mesh.p2p.peers import Peers


class NodeCommands:
    """See `mesh.api.server.Commands`."""

    def __init__(
        self,
        config: Config,
        name: str,
        journal: Journal,
        overlay: Overlay,
        peers: Peers,
        experts: LocalExperts,
        requests: Requests,
        health: HealthMonitor,
        access: AccessControl,
        forgetter: Forgetter,
        *,
        clock: Clock,
        epoch: int,
        broker_url: str,
        gateway_url: str,
        processes: Callable[[], dict[str, int]],
        notices: Callable[[], tuple[str, ...]],
    ) -> None:
        self._config = config
        self._name = name
        self._journal = journal
        self._overlay = overlay
        self._peers = peers
        self._experts = experts
        self._requests = requests
        self._health = health
        self._access = access
        self._forgetter = forgetter
        self._clock = clock
        self._started = clock.monotonic()
        self._epoch = epoch
        self._broker_url = broker_url
        self._gateway_url = gateway_url
        self._processes = processes
        self._notices = notices

    async def ask(self, query: dict[str, Any], emit: Emit | None) -> Outcome:
        """See `Commands.ask`."""
        return await self._requests.ask(query, emit)

    async def acknowledge(self, alert: str, actor: str, note: str) -> None:
        """See `Commands.acknowledge`."""
        await self._health.acknowledge(alert, actor, note).stored()

    async def access(self, message: AccessMessage) -> AccessChanged:
        """See `Commands.access`."""
        actions = {
            "block": self._access.block,
            "unblock": self._access.unblock,
            "allow": self._access.allow,
            "disallow": self._access.disallow,
        }
        change = await actions[message.action](message.party, message.actor, message.reason)
        return AccessChanged(party=change.party, changed=change.changed, closed=change.closed)

    async def forget(self, message: ForgetMessage) -> Forgotten:
        """See `Commands.forget`."""
        try:
            if message.requests:
                return await self._forgetter.forget(message.requests, actor=message.actor)
            before = self._clock.now() - (message.older_than_s or 0.0)
            return await self._forgetter.forget_where(before=before, caller=message.caller, actor=message.actor)
        except OSError as error:
            raise MeshError(
                f"the keys cannot be erased: {error}", remedy="They are in content-keys, in the home."
            ) from error

    def status(self) -> NodeStatus:
        """See `Commands.status`."""
        return NodeStatus(
            peer_id=self._journal.origin,
            name=self._name,
            mesh=self._config.node.mesh,
            release=__version__,
            pid=os.getpid(),
            processes=self._processes(),
            uptime_s=self._clock.monotonic() - self._started,
            epoch=self._epoch,
            addresses=self._addresses(),
            connected=tuple(sorted(self._peers.connected())),
            experts=tuple(offer.expert for offer in self._experts.offers() if offer.available),
            position=self._journal.position,
            stored_position=self._journal.stored_position,
            requests_in_flight=self._requests.in_flight,
            serving=self._experts.in_flight,
            broker_url=self._broker_url,
            gateway_url=self._gateway_url,
            notices=self._notices() + tuple(f"expert {name}: {why}" for name, why in self._experts.problems.items()),
        )

    def _addresses(self) -> tuple[str, ...]:
        try:
            return self._overlay.addresses
        except MeshError:
            return ()  # it is being restarted
