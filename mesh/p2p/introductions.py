"""Peers that this node does not see by itself: those of its past, of its configuration, and those others tell of."""

from collections.abc import Mapping, Sequence
from typing import Final

from mesh.clock import Clock
from mesh.config import OverlayConfig
from mesh.keeper import Keeper
from mesh.p2p.addresses import static_peers
from mesh.p2p.hints import HintBudget, is_name_of_peer, usable
from mesh.p2p.peer_book import PeerBook
from mesh.p2p.peers import Peers

# Told to one peer in one answer.
MAX_TOLD: Final = 16
# Whom somebody told of is dialled so often; then it is not heard of again for a while.
HINT_PATIENCE: Final = 3
SHUN_S: Final = 600.0
# Hints that are being tried at a time, whoever gave them.
MAX_UNTRIED: Final = 128
_MAX_SHUNNED = 1024
_BOOTSTRAP_EVERY_S = 15.0
# A node that comes back dials those it knew within so much, for each of them, and not all at once.
_SPREAD_S = 0.05
_MAX_SPREAD_S = 2.0


class Introducer:
    """Decides which hints are followed, and gives hints to others. Raises ConfigError for malformed bootstrap peers."""

    def __init__(self, peers: Peers, config: OverlayConfig, *, own: str, clock: Clock) -> None:
        self._peers = peers
        self._config = config
        self._own = own
        self._clock = clock
        self._bootstrap = static_peers(config.bootstrap, own, "bootstrap")
        self._budget = HintBudget()
        self._tried: dict[str, float] = {}
        self.keeper = Keeper("bootstrap")

    async def start(self, book: PeerBook) -> None:
        """Dial those of before, and bootstrap peers whenever there is nobody else."""
        known = book.to_dial(self._clock.now(), self._config.redial_known)
        within_s = min(_MAX_SPREAD_S, _SPREAD_S * len(known))
        for peer, addresses in known:
            self._peers.learn(peer, addresses, "store", within_s=within_s)
        if self._bootstrap:
            self.keeper.begin(self._keep_bootstrapped())

    async def stop(self) -> None:
        """End; nothing of it runs when this returns."""
        await self.keeper.end()

    async def _keep_bootstrapped(self) -> None:
        while True:
            if not self._peers.connected():
                for peer, addresses in self._bootstrap.items():
                    self._peers.learn(peer, addresses, "bootstrap")
            await self._clock.sleep(_BOOTSTRAP_EVERY_S)

    def tell(self, peer: str) -> dict[str, tuple[str, ...]]:
        """Nodes that are connected here, with those addresses that ``peer`` could have seen itself; at most 16."""
        via = self._peers.address_of(peer)
        if not self._config.exchange or not via:
            return {}
        told = {
            other: usable(other, addresses, via)
            for other, addresses in self._peers.acquaintances().items()
            if other != peer
        }
        return dict([(other, addresses) for other, addresses in told.items() if addresses][:MAX_TOLD])

    def hear(self, by: str, introduced: Mapping[str, tuple[str, ...]]) -> None:
        """Follow what a peer says of others, as far as it may have such knowledge, and there is room."""
        if not self._config.exchange or len(self._peers.connected()) >= self._config.exchange_until:
            return
        for peer, addresses in introduced.items():
            self.hint(peer, addresses, "exchange", by=by, via=self._peers.address_of(by))

    def hint(self, peer: str, addresses: Sequence[str], source: str, *, by: str, via: str) -> bool:
        """``by``, who is at ``via``, says where a peer is; returns whether it is dialled for that.

        What is known of a peer is never changed by a hint: the one who gives it may want the good addresses forgotten.
        A walk through the DHT may have met the peer on its way: then it is kept, at the addresses that it has.
        """
        now, known, met = self._clock.monotonic(), self._peers.known(), self._peers.acquaintances().get(peer)
        if not is_name_of_peer(peer, self._own) or peer in known or (met is not None and source != "dht"):
            return False
        fit = met or usable(peer, addresses, via)
        self._forget_tried(now)
        untried = sum(tried in known and tried not in self._peers.connected() for tried in self._tried)
        if not fit or peer in self._tried or untried >= MAX_UNTRIED or not self._budget.take(by, now):
            return False
        self._tried[peer] = now
        self._peers.learn(peer, fit, source, by=by, patience=HINT_PATIENCE)
        return True

    def _forget_tried(self, now: float) -> None:
        self._tried = {peer: at for peer, at in self._tried.items() if now - at < SHUN_S}
        while len(self._tried) > _MAX_SHUNNED:
            del self._tried[next(iter(self._tried))]
