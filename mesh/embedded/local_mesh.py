"""A mesh of one, in the caller's process: ``async with LocalMesh() as mesh: await mesh.ask("…")``."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from secrets import randbits
from types import TracebackType
from typing import Any, TypeVar

from pydantic import ValidationError

from mesh import __version__
from mesh.api.failures import RequestFailed
from mesh.api.pieces import OnText, tell
from mesh.clock import Clock, SystemClock
from mesh.config import ExpertConfig, RoutingConfig
from mesh.embedded.absent import NeedsNode, NodeCalls, NoPeers
from mesh.embedded.history import History
from mesh.errors import ConfigError, MeshError
from mesh.events.audit import seal_bytes
from mesh.events.envelope import Fact, Record
from mesh.events.journal import Emission, Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.journal import JournalSealed
from mesh.events.vocabulary.node import NodeStarted, NodeStopped
from mesh.experts.backends.function import FunctionBackend
from mesh.experts.host import LocalExperts
from mesh.experts.queries import Outcome, QueryFailed, QueryRejected
from mesh.experts.requests import Requests, recover
from mesh.experts.state import RoutingState
from mesh.history import NodeHistory
from mesh.identity import Identity
from mesh.ids import new_id

Function = TypeVar("Function", bound=Callable[..., object])
_NO_EXPERT = "Give the mesh one before it is opened: @mesh.expert(name, domains=[…])."


class LocalMesh(History, NodeCalls):
    """Experts, routing and a journal in memory, with `mesh.api.client.Mesh`'s ``ask``; no process, no socket, no file.

    Give it experts, then use it as an async context manager. ``records`` are those of an earlier life, of the same
    ``identity`` (default: a new one): the mesh goes on from them, as a node does from its store. ``config`` is
    ``[routing]``; without one, requests are ``local_only``. ``clock``, ``make_seed`` and ``make_id`` are for tests
    that want the same journal each time.
    """

    def __init__(
        self,
        *,
        name: str = "embedded",
        identity: Identity | None = None,
        config: RoutingConfig | None = None,
        records: Iterable[Record] = (),
        clock: Clock | None = None,
        make_seed: Callable[[], int] = lambda: randbits(53),
        make_id: Callable[[], str] = new_id,
    ) -> None:
        known = identity or Identity.generate()
        super().__init__(known, MemoryEventStore(known.peer_id, list(records)))
        self._name = name
        self._config = config or RoutingConfig(strategy="local_only")
        self._clock = clock or SystemClock()
        self._make_seed = make_seed
        self._make_id = make_id
        self._state = RoutingState(self.identity.peer_id)
        self._functions: dict[str, tuple[ExpertConfig, Callable[..., object]]] = {}
        self._stack = AsyncExitStack()
        self._requests: Requests | None = None

    def expert(
        self, name: str, *, domains: Sequence[str], concurrency: int = 4, queue: int = 64, quality: float = 0.5
    ) -> Callable[[Function], Function]:
        """A decorator: the function below it answers requests in ``domains`` from when the mesh is opened.

        What it may be is what ``backend = "python"`` takes (docs/experts.md). Raises ConfigError for a name or a
        value that a config file could not have, and for what comes too late.
        """
        if self._requests is not None or name in self._functions:
            what = "the mesh is open" if self._requests is not None else "another expert has that name"
            raise ConfigError(f"the expert {name!r} cannot be added: {what}", remedy="Add it before, once.")
        config = _expert_config(name=name, domains=list(domains), concurrency=concurrency, queue=queue, quality=quality)

        def add(function: Function) -> Function:
            self._functions[name] = (config, function)
            return function

        return add

    async def __aenter__(self) -> "LocalMesh":
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Requests in flight end as cancelled; the journal ends with the last word and a seal."""
        await self._stack.aclose()
        self._requests = None

    async def _open(self) -> None:
        peer_id = self.identity.peer_id
        history = NodeHistory(peer_id)
        self._journal = Journal(
            peer_id, self._store, self._clock, folds=[self._state.apply, history.apply], make_id=self._make_id
        )
        self._stack.push_async_callback(self._journal.close)
        resumed_from = await self._journal.open()
        self._stack.push_async_callback(self._say_goodbye)
        clean, epoch = history.clean, history.epoch + 1
        self._emit(
            NodeStarted(epoch=epoch, name=self._name, release=__version__, resumed_from=resumed_from, clean=clean)
        )
        recover(self._state, self._journal)
        self._experts = LocalExperts(
            [config for config, _ in self._functions.values()],
            self.identity,
            self._journal,
            self._clock,
            make=lambda config: FunctionBackend(self._functions[config.name][1], config.concurrency),
        )
        await self._experts.start()
        self._stack.push_async_callback(self._experts.stop)
        self._requests = Requests(
            self._journal,
            self._state,
            self._experts,
            NoPeers(),
            self._config,
            peer_id=peer_id,
            clock=self._clock,
            make_seed=self._make_seed,
            make_id=self._make_id,
        )
        self._stack.push_async_callback(self._requests.close, "the mesh is being closed")

    async def _say_goodbye(self) -> None:
        self._emit(NodeStopped(reason="closed"))
        position, link = self._journal.head
        signature = self.identity.sign(seal_bytes(self.identity.peer_id, position, link))
        seal = JournalSealed(sealed_position=position, link=link.hex(), signature=signature.hex())
        await self._emit(seal).stored()

    def _emit(self, fact: Fact) -> Emission:
        return self._journal.emit(fact, subject=self.identity.peer_id)

    # -- asking --------------------------------------------------------------------------------------------------

    async def ask(
        self,
        content: str = "",
        *,
        domain: str = "auto",
        expert: str = "",
        strategy: str = "",
        policy: str = "",
        fan_out: int = 0,
        timeout: float = 0,
        delivery: str = "stream",
        options: dict[str, Any] | None = None,
        on_text: OnText | None = None,
        **choices: Any,  # noqa: ANN401 - the query's own check is the one that counts
    ) -> Outcome:
        """Ask the experts here: everything as with `mesh.api.client.Mesh.ask`.

        ``choices`` are whatever else a `mesh.experts.queries.Query` has.

        Raises RequestFailed when there is no answer, and NeedsNode, which is one, for what takes other nodes:
        ``consensus`` counts their signatures.
        """
        requests = self._running()
        if (strategy or self._config.strategy) == "consensus":
            what = "consensus counts the signed answers of several nodes, and there is one here"
            refused = requests.refuse("local", what)
            await self._journal.stored()
            raise NeedsNode(what, refused)
        query = {
            "content": content,
            "domain": domain,
            "expert": expert,
            "strategy": strategy,
            "policy": policy,
            "fan_out": fan_out,
            "timeout_s": timeout,
            "delivery": delivery,
            "options": options or {},
            **choices,
        }
        try:
            return await requests.ask(query, None if on_text is None else partial(tell, on_text))
        except QueryRejected as rejected:
            raise RequestFailed(rejected.kind, rejected.message, rejected.request) from rejected
        except QueryFailed as failed:
            remedy = _NO_EXPERT if failed.kind == "no_candidates" else ""
            raise RequestFailed(failed.kind, failed.message, failed.request, remedy=remedy) from failed

    def _running(self) -> Requests:
        if self._requests is None:
            raise MeshError("the mesh is not open", remedy="Use it as `async with mesh: …`.")
        keeper = self._experts.keeper.task
        if keeper is not None and keeper.done():
            raise MeshError("the experts are no longer looked after", remedy="Open the mesh again.") from (
                None if keeper.cancelled() else keeper.exception()
            )
        return self._requests

    @property
    def problems(self) -> dict[str, str]:
        """Why each expert that cannot serve now cannot, by name."""
        self._running()
        return self._experts.problems


def _expert_config(**fields: Any) -> ExpertConfig:  # noqa: ANN401 - they are about to be checked
    try:
        return ExpertConfig(backend="python", **fields)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc']))} = {one['input']!r}: {one['msg']}" for one in error.errors())
        raise ConfigError(
            f"that is no expert: {'; '.join(problems)}", remedy="docs/experts.md says what is allowed."
        ) from None
