"""Who answers: this node's experts, those of its peers, and the requests that are routed among them."""

from secrets import randbits

from mesh.clock import Clock
from mesh.config import Config
from mesh.events.broker import Broker
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.experts.backends import source_of
from mesh.experts.backends.nats_services import services_at
from mesh.experts.cache import AnswerCache
from mesh.experts.canary_keeper import CanaryKeeper
from mesh.experts.classifier import Classifier
from mesh.experts.content_keys_files import FileContentKeys
from mesh.experts.directory import Directory
from mesh.experts.embedder_worker import WorkerEmbedder
from mesh.experts.forgetting import Forgetter
from mesh.experts.host import LocalExperts
from mesh.experts.keeping import ContentKeeper
from mesh.experts.offers import OfferBoard
from mesh.experts.recruiter import Recruiter
from mesh.experts.recruiting import ExpertSource
from mesh.experts.remote import RemoteExperts, serve_experts
from mesh.experts.requests import Requests
from mesh.home import Home
from mesh.identity import Identity
from mesh.node.journaling import Journaling
from mesh.node.lifetime import Lifetime
from mesh.node.networking import Networking


class Answering:
    """The experts and the requests of a node, over what it has of a journal and a network."""

    def __init__(
        self,
        home: Home,
        config: Config,
        identity: Identity,
        broker: Broker,
        journaling: Journaling,
        networking: Networking,
        clock: Clock,
    ) -> None:
        self._config = config
        self._broker = broker
        self._clock = clock
        journal, routing, peers = journaling.journal, journaling.routing, networking.peers
        sources = [(source_of(expert), expert) for expert in config.experts]
        self._content_keys = FileContentKeys(home.content_keys)
        content = ContentKeeper(config.routing, config.content, self._content_keys, clock)
        fixed = [expert for source, expert in sources if source is None]
        self.experts = LocalExperts(fixed, identity, journal, clock, content=content)
        serve_experts(peers, self.experts)
        self._recruiter = self._made_recruiter([source for source, _ in sources if source is not None])
        cache = AnswerCache(config.cache, clock.monotonic)
        self.forgetter = Forgetter(
            self._content_keys, journal, clock, retain_days=config.content.retain_days, on_forgotten=cache.forget
        )
        self._offers = OfferBoard(
            peers,
            self.experts,
            journal,
            routing,
            interval_s=config.overlay.offer_interval_s,
            clock=clock,
            introductions=networking.introducer,
        )
        self._directory = Directory(peers, networking.introducer, self.experts, journal, routing, clock=clock)
        self.experts.on_change = self._experts_changed
        self._embedder = WorkerEmbedder(config.routing.embedding)
        self._classifier = self._made_classifier()
        self.requests = Requests(
            journal,
            routing,
            self.experts,
            RemoteExperts(peers, journal),
            config.routing,
            peer_id=identity.peer_id,
            clock=clock,
            make_seed=lambda: randbits(53),
            seek=self._directory.seek if config.overlay.dht else None,
            cache=cache,
            content=content,
            embedder=self._embedder,
            classifier=self._classifier,
        )
        self._canaries = CanaryKeeper(
            self.requests,
            journal,
            routing,
            config.routing.canaries,
            interval_s=config.routing.canary_interval_s,
            clock=clock,
            make_seed=lambda: randbits(53),
        )

    async def begin_local(self, life: Lifetime) -> None:
        """Start this node's experts. One that cannot serve is reported, and tried again."""
        life.finally_call(self._content_keys.close)
        life.finally_await(self._embedder.stop)
        life.finally_await(self._classifier.close)
        await life.begin_kept(self.forgetter)
        await life.begin_kept(self.experts)
        await life.begin_kept(self._recruiter)

    async def begin_shared(self, life: Lifetime) -> None:
        """Offer them to the peers, and take requests. The node has joined its mesh by now."""
        await life.begin_kept(self._offers)
        await life.begin_kept(self._directory)

    async def begin_asking(self, life: Lifetime) -> None:
        """Ask canaries from now on; at the end, let every request have its outcome first."""
        life.finally_await(self.requests.close)
        await life.begin_kept(self._canaries)

    def _made_recruiter(self, sources: list[ExpertSource]) -> Recruiter:
        workers = self._config.workers
        sources += services_at(self._broker, workers, ours=isinstance(self._broker, EmbeddedBroker))
        return Recruiter(sources, self.experts, self._clock, interval_s=workers.interval_s, most=workers.most)

    def _made_classifier(self) -> Classifier:
        config = self._config
        return Classifier(
            self._embedder if config.routing.classifier == "embedding" else None,
            {name: domain.examples for name, domain in config.domains.items()},
            default=config.routing.default_domain,
        )

    def _experts_changed(self) -> None:
        self._offers.changed()
        self._directory.changed()
