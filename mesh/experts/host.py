"""The experts that this node serves: their life, their offers, and one ``request.served`` for every call."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from mesh.clock import Clock
from mesh.config import ExpertConfig, RoutingConfig
from mesh.errors import ConfigError, MeshError
from mesh.events.journal import Emission, Journal
from mesh.events.vocabulary.experts import ExpertDeregistered, ExpertLimited, ExpertOffered, ExpertRegistered
from mesh.experts.backend import Backend
from mesh.experts.backends import concurrency_of, make_backend
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit
from mesh.experts.keeping import ContentKeeper
from mesh.experts.local_expert import LocalExpert
from mesh.experts.replays import Replays
from mesh.experts.serving import Serving
from mesh.identity import Identity
from mesh.keeper import Keeper

_START_TIMEOUT_S = 120.0
_CHECK_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


class LocalExperts:
    """Serves the configured experts.

    An expert whose *settings* are wrong stops the node (ConfigError from the constructor). One whose backend
    cannot start (a model server that is down, a package that is missing) is logged, shown in `problems`, not
    offered, and tried again at every check, so that the node serves its other experts meanwhile.

    ``on_change`` is called, on the event loop, whenever an expert comes, goes, or changes its availability.
    """

    def __init__(
        self,
        configs: Sequence[ExpertConfig],
        identity: Identity,
        journal: Journal,
        clock: Clock,
        *,
        on_change: Callable[[], None] = lambda: None,
        check_interval_s: float = 10.0,
        offer_valid_s: float = 30.0,
        make: Callable[[ExpertConfig], Backend] = make_backend,
        content: ContentKeeper | None = None,
    ) -> None:
        _refuse_duplicates(configs)
        self.on_change = on_change
        self._identity = identity
        self._journal = journal
        self._clock = clock
        self._content = content or ContentKeeper.in_memory(RoutingConfig(), clock)
        self._check_interval_s = check_interval_s
        self._offer_valid_s = offer_valid_s
        self._experts = {config.name: LocalExpert(config, make(config), concurrency_of(config)) for config in configs}
        self._checking: set[LocalExpert] = set()
        self._replays = Replays()
        self.keeper = Keeper("check experts")
        self._announced: tuple[tuple[str, bool], ...] = ()

    async def start(self) -> None:
        """Start every backend and record each expert that serves. Never fails for the sake of one expert."""
        await self._check_all()
        self.keeper.begin(self._keep())

    async def stop(self, reason: str = "the node is stopping") -> None:
        """Withdraw every expert, end the calls in flight as ``unavailable``, and stop the backends."""
        await self.keeper.end()
        for expert in self._experts.values():
            if expert.registered:
                expert.registered = False
                self._record(ExpertDeregistered(expert=expert.config.name, reason=reason))
        self._tell()
        outcomes = await asyncio.gather(*(e.stop() for e in self._experts.values()), return_exceptions=True)
        for name, outcome in zip(self._experts, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                log.error("backend did not stop cleanly", expert=name, error=repr(outcome))

    @property
    def names(self) -> frozenset[str]:
        """The names of all experts here, also of those that cannot serve now."""
        return frozenset(self._experts)

    async def enlist(self, config: ExpertConfig, backend: Backend) -> None:
        """Serve one more expert, until `withdraw` or `stop`. Its failures are its own. Raises ConfigError."""
        if config.name in self._experts:
            raise ConfigError(f"there is an expert {config.name!r} already", remedy="Give one of them another name.")
        expert = self._experts[config.name] = LocalExpert(config, backend, config.concurrency)
        await self._check(expert)
        self._tell()

    async def withdraw(self, name: str, reason: str) -> None:
        """Serve an expert no more: its calls end as ``unavailable``. Nothing happens for one that is not there."""
        expert = self._experts.pop(name, None)
        if expert is None:
            return
        if expert.registered:
            expert.registered = False
            self._record(ExpertDeregistered(expert=name, reason=reason))
        self._tell()
        try:
            await expert.stop()
        except Exception as error:  # noqa: BLE001 - whatever a backend raises, the other experts go on
            log.error("backend did not stop cleanly", expert=name, error=repr(error))  # noqa: TRY400 - it is told

    @property
    def problems(self) -> dict[str, str]:
        """Why each expert that cannot serve now cannot, by name."""
        return {name: expert.problem for name, expert in self._experts.items() if expert.problem}

    @property
    def in_flight(self) -> int:
        """Calls that run now, over all experts."""
        return sum(expert.slots.in_flight for expert in self._experts.values())

    @property
    def queued(self) -> int:
        """Calls that wait for a slot, over all experts."""
        return sum(expert.slots.queued for expert in self._experts.values())

    def offers(self) -> list[ExpertOffered]:
        """What this node can be asked now, with the load of each expert."""
        return [self._offer(expert) for expert in self._experts.values() if expert.registered]

    async def ask(self, call: Call, emit: Emit, *, caller: str) -> Answer:
        """Let an expert answer ``caller`` (a PeerId), and record it as exactly one ``request.served``.

        Returns, or raises AttemptFailed, only once that event is stored; but to a request of this node's own at once,
        since it waits for its last event, and with that for all before. When the caller cancels, the event is recorded,
        the expert's work is cancelled, and nothing is waited for.
        """
        serving = Serving(call, caller, self._identity, self._journal, self._clock, self._content)
        try:
            expert = self._expert(call.expert)
            turns = f"{caller}/{call.caller}" if call.caller else caller
            async with self._replays.turn(caller, call) as said:
                answer = said.answer or await expert.work(call, serving.watch(emit), serving.started, caller=turns)
                signed, emission = serving.answered(answer, expert.backend.model)
                self._replays.keep(said, signed)
        except asyncio.CancelledError:
            serving.cancelled()
            raise
        except AttemptFailed as failure:
            emission = serving.failed(failure)
            self._note(call.expert, failure)
            await self._stored(emission, caller)
            raise
        finally:
            serving.close()
        await self._stored(emission, caller)
        return signed

    async def _stored(self, emission: Emission, caller: str) -> None:
        if caller != self._identity.peer_id:
            await emission.stored()

    def _expert(self, name: str) -> LocalExpert:
        expert = self._experts.get(name)
        if expert is None or not expert.registered:
            known = ", ".join(name for name, expert in self._experts.items() if expert.registered) or "none"
            raise AttemptFailed("unknown_expert", f"{name!r} is not served here; served: {known}")
        return expert

    def _note(self, name: str, failure: AttemptFailed) -> None:
        """An engine that just could not be reached is not offered until a check finds it again."""
        expert = self._experts.get(name)
        if failure.kind == "unavailable" and expert is not None and expert.registered:
            expert.problem = failure.message
            self._tell()

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(self._check_interval_s)
            await self._check_all()
            self._record_load()

    def _record_load(self) -> None:
        """Limits and loads that are not what was recorded last, at most once in ``check_interval_s``."""
        for expert in self._experts.values():
            if expert.registered and (limited := expert.limit_change()) is not None:
                self._record(limited)
            offer = self._offer(expert)
            if expert.registered and expert.said != (offer.concurrency, offer.in_flight, offer.queued, offer.available):
                expert.said = (offer.concurrency, offer.in_flight, offer.queued, offer.available)
                self._record(offer)

    async def _check_all(self) -> None:
        await asyncio.gather(*(self._check(expert) for expert in self._experts.values()))
        self._tell()

    async def _check(self, expert: LocalExpert) -> None:
        if expert in self._checking:
            return
        self._checking.add(expert)
        try:
            await self._check_now(expert)
        finally:
            self._checking.discard(expert)
        if self._experts.get(expert.config.name) is not expert:  # withdrawn meanwhile
            await expert.backend.stop()
        elif expert.started and not expert.registered:
            self._register(expert)

    async def _check_now(self, expert: LocalExpert) -> None:
        before = expert.problem
        try:
            if not expert.started:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    await expert.start()
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await expert.backend.check()
            expert.problem = ""
        except TimeoutError:
            limit = f"a check within {_CHECK_TIMEOUT_S:g} s" if expert.started else f"within {_START_TIMEOUT_S:g} s"
            expert.problem = f"did not {'answer' if expert.started else 'start'} {limit}"
        except Exception as error:  # noqa: BLE001 - whatever a backend raises, the other experts go on
            expert.problem = str(error) if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
        if expert.problem and expert.problem != before:
            log.warning("expert cannot serve", expert=expert.config.name, problem=expert.problem)

    def _register(self, expert: LocalExpert) -> None:
        config = expert.config
        expert.registered = True
        self._record(
            ExpertRegistered(
                expert=config.name,
                backend=config.backend,
                model=expert.backend.model,
                domains=tuple(config.domains),
                concurrency=expert.concurrency,
                queue_limit=config.queue,
                features=expert.backend.features,
                price=config.price,
                quality=config.quality,
            )
        )

    def _offer(self, expert: LocalExpert) -> ExpertOffered:
        config = expert.config
        return ExpertOffered(
            peer=self._identity.peer_id,
            expert=config.name,
            model=expert.backend.model,
            domains=tuple(config.domains),
            concurrency=expert.limit.now,
            queue_limit=config.queue,
            in_flight=expert.slots.in_flight,
            queued=expert.slots.queued,
            available=expert.available,
            quality=config.quality,
            features=expert.backend.features,
            price=config.price,
            valid_s=self._offer_valid_s,
        )

    def _record(self, fact: ExpertRegistered | ExpertDeregistered | ExpertLimited | ExpertOffered) -> None:
        self._journal.emit(fact, subject=self._identity.peer_id)

    def _tell(self) -> None:
        now = tuple((offer.expert, offer.available) for offer in self.offers())
        if now != self._announced:
            self._announced = now
            self.on_change()


def _refuse_duplicates(configs: Sequence[ExpertConfig]) -> None:
    seen: set[str] = set()
    for config in configs:
        if config.name in seen:
            raise ConfigError(
                f"two experts are named {config.name!r}", remedy="Give each [[experts]] a name of its own."
            )
        seen.add(config.name)
