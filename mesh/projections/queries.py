"""The tables as questions: read models for the command line, the node and its dashboard. They cannot write.

Rows are dicts by column name, JSON columns decoded. Any number of these may run beside the projector.
"""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, select, text, union

from mesh.clock import Clock, SystemClock
from mesh.errors import MeshError
from mesh.projections import statistics
from mesh.projections.folds import PROJECTIONS
from mesh.projections.read_only import ReadOnlyDatabase
from mesh.projections.tables import CHECKPOINTS, METADATA, columns_of

Answer = dict[str, Any]
_POLL_MIN_S = 0.002
_POLL_MAX_S = 0.05
# Columns that hold JSON.
_JSON = {spec.name for projection in PROJECTIONS for spec in columns_of(projection.row) if spec.is_json}
_JSON |= {"chosen", "inputs", "decision"}


class NotYetProjected(MeshError):
    """The tables did not reach a position in time."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Queries:
    """Asks the tables at ``url``. Use as an async context manager; raises DatabaseMissing when there are none.

    ``node``: only what this node itself says of peers, experts, health and alerts; empty: what others shared as well.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, node: str = "") -> None:
        self._node = node
        self._database = ReadOnlyDatabase(url)
        self._clock = clock or SystemClock()

    async def __aenter__(self) -> "Queries":
        await self._database.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.close()

    async def nodes(self) -> list[Answer]:
        """Each node whose journal this is: its starts, crashes and stops."""
        return await self._all(select(_table("nodes")).order_by("node"))

    async def peers(self) -> list[Answer]:
        """Every peer with its health beside it, the connected first."""
        peers, health = _table("peers"), _table("peer_health")
        same = and_(health.c.target == peers.c.peer, health.c.node == peers.c.node)
        figures = [health.c[name] for name in ("status", "score", "latency_ms", "loss", "success_rate")]
        statement = self._own(select(peers, *figures).outerjoin(health, same), peers)
        return await self._all(statement.order_by(peers.c.state != "connected", peers.c.peer))

    async def experts(self) -> list[Answer]:
        """Every expert that was ever offered, the active first, with what was asked of it and its peer's name."""
        experts, load = _table("experts"), _table("peer_load")
        same = and_(load.c.peer == experts.c.peer, load.c.expert == experts.c.expert, load.c.node == experts.c.node)
        figures = [load.c[name] for name in ("dispatched", "answered", "failed", "success_rate", "ewma_latency_ms")]
        named = _with_name(select(experts, *figures, _name()).outerjoin(load, same), experts)
        statement = self._own(named, experts)
        return await self._all(statement.order_by(experts.c.state != "active", experts.c.peer, experts.c.expert))

    async def statistics(self, since: str, node: str = "") -> dict[str, Any]:
        """``total``, ``domains`` (with who serves each) and ``experts``, of requests since a time.

        docs/statistics.md has the statements and what their columns mean.
        """
        given = {"since": since, "node": node or self._node}
        (total,) = await self._stated(statistics.TOTAL, given)
        coverage = await self._stated(statistics.COVERAGE[self._database.dialect], given)
        asked = {row["domain"]: row for row in await self._stated(statistics.DOMAINS, given)}
        served = {row["domain"]: row for row in coverage}
        return {
            "since": since,
            "total": total,
            "domains": [_domain(name, served.get(name), asked.get(name)) for name in sorted({*served, *asked})],
            "experts": await self._stated(statistics.EXPERTS, given),
        }

    async def access_rules(self, active_only: bool = True) -> list[Answer]:
        """Rules about who may be connected to, made while the node ran; ``active_only`` leaves out the lifted ones."""
        rules = _table("access_rules")
        statement = select(rules).order_by(rules.c.list, rules.c.kind, rules.c.party)
        return await self._all(statement.where(rules.c.state == "active") if active_only else statement)

    async def requests(self, limit: int = 100, state: str | None = None) -> list[Answer]:
        """The latest requests, newest first, with the name of who answered; ``state`` leaves only those in it."""
        requests = _table("requests")
        named = _with_name(select(requests, _name()), requests)
        statement = named.order_by(requests.c.received_at.desc(), requests.c.request.desc()).limit(limit)
        return await self._all(statement if state is None else statement.where(requests.c.state == state))

    async def request_ids(self, prefix: str, limit: int = 5, *, served: bool = False) -> list[str]:
        """The ids of the latest requests that begin with ``prefix``, newest first; ``served``: served ones too."""
        columns = [_table(name).c.request for name in ("requests", "served")[: 1 + served]]
        begin_so = [select(one.label("request")).where(one.startswith(prefix, autoescape=True)) for one in columns]
        ids = union(*begin_so).subquery()
        found = await self._all(select(ids.c.request).order_by(ids.c.request.desc()).limit(limit))
        return [str(row["request"]) for row in found]

    async def taken_in_at(self, request: str, node: str) -> int | None:
        """The position at which ``node`` took a request in; None when that is not known."""
        requests = _table("requests")
        found = select(requests.c.first_position).where(requests.c.request == request, requests.c.node == node)
        return next((row["first_position"] for row in await self._all(found)), None)

    async def request(self, request: str) -> Answer | None:
        """One request, with ``attempts_made``, ``decisions_made`` and ``served`` (here); None when it is unknown."""
        requests = _table("requests")
        found = await self._all(select(requests).where(requests.c.request == request))
        if not found:
            return None
        return {
            **found[0],
            "attempts_made": await self._parts("attempts", request, "attempt"),
            "decisions_made": await self._parts("decisions", request, "position"),
            "served": await self._parts("served", request, "position"),
        }

    async def texts(self, request: str) -> tuple[list[Answer], list[Answer]]:
        """What is kept of the texts of a request: where it was taken in, and where this node served it."""
        taken_in = await self._parts("requests", request, "first_position")
        return taken_in, await self._parts("served", request, "position")

    async def health(self) -> list[Answer]:
        """The health of the node and of each peer, the worst first, without the samples that trends are made of."""
        health = _table("peer_health")
        columns = [column for column in health.c if column.name != "recent"]
        statement = self._own(select(*columns), health)
        return await self._all(statement.order_by(health.c.kind, health.c.score, health.c.target))

    async def samples(self, target: str, limit: int = 100) -> list[Answer]:
        """The latest health samples of one node or peer, newest first."""
        samples = _table("health_samples")
        statement = self._own(select(samples).where(samples.c.target == target), samples)
        return await self._all(statement.order_by(samples.c.position.desc()).limit(limit))

    async def load(self) -> list[Answer]:
        """What was asked of each expert of each peer."""
        load = _table("peer_load")
        return await self._all(select(load).order_by(load.c.peer, load.c.expert))

    async def alerts(self, open_only: bool = False) -> list[Answer]:
        """Alerts, the latest first; ``open_only`` leaves those that are raised or acknowledged."""
        alerts = _table("alerts")
        statement = self._own(select(alerts), alerts).order_by(alerts.c.last_position.desc())
        return await self._all(statement.where(_is_open(alerts.c.state)) if open_only else statement)

    async def alert_history(self, alert: str) -> list[Answer]:
        """Each step of one alert, in order."""
        history = _table("alert_history")
        return await self._all(select(history).where(history.c.alert == alert).order_by(history.c.position))

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many peers, connections, experts, requests, attempts and alerts are in each state."""
        tables = ("peers", "connections", "experts", "requests", "attempts", "alerts")
        return {name: await self._count_states(name) for name in tables}

    async def position(self) -> int:
        """Up to which position of the journal all tables are folded; 0 before the first event."""
        checkpoints = METADATA.tables[CHECKPOINTS]
        rows = await self._database.fetch(select(func.min(checkpoints.c.position)))
        return rows[0][0] or 0

    async def updated_at(self) -> str:
        """When the tables last came further; empty where there are none."""
        checkpoints = METADATA.tables[CHECKPOINTS]
        rows = await self._database.fetch(select(func.min(checkpoints.c.updated_at)))
        return rows[0][0] or ""

    async def wait_for(self, position: int, timeout: float = 10.0) -> int:
        """Return, with where they are, once the tables know everything up to ``position``.

        Raises NotYetProjected after ``timeout`` seconds.
        """
        deadline = self._clock.monotonic() + timeout
        pause = _POLL_MIN_S
        while (reached := await self.position()) < position:
            if self._clock.monotonic() >= deadline:
                raise NotYetProjected(
                    f"the tables are at position {reached}, {position} was not reached within {timeout:g} s",
                    remedy="See the projector's log in the node's home; `mesh doctor` names what holds it up.",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _POLL_MAX_S)
        return reached

    async def sql(
        self, statement: str, limit: int = 1000, timeout: float = 30.0
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The columns and at most ``limit`` rows of one SELECT of the user's. Raises QueryRefused."""
        return await self._database.ask(statement, limit, timeout)

    def _own(self, statement: Select[Any], table: Any) -> Select[Any]:  # noqa: ANN401 - columns are looked up by name
        return statement.where(table.c.node == self._node) if self._node else statement

    async def _parts(self, name: str, request: str, order: str) -> list[Answer]:
        table = _table(name)
        return await self._all(select(table).where(table.c.request == request).order_by(table.c[order]))

    async def _count_states(self, name: str) -> dict[str, int]:
        state = _table(name).c.state
        rows = await self._database.fetch(select(state, func.count()).group_by(state).order_by(state))
        return {row[0]: row[1] for row in map(tuple, rows)}

    async def _stated(self, statement: str, given: Mapping[str, str]) -> list[Answer]:
        used = {name: value for name, value in given.items() if f":{name}" in statement}
        rows = await self._database.fetch(text(statement).bindparams(**used))
        return [{name: _plain(value) for name, value in row._mapping.items()} for row in rows]  # noqa: SLF001 - as above

    async def _all(self, statement: Select[Any]) -> list[Answer]:
        return [_answer(row._mapping) for row in await self._database.fetch(statement)]  # noqa: SLF001 - its public name


def _domain(name: str, served: Answer | None, asked: Answer | None) -> Answer:
    nobody = {"experts": 0, "peers": 0, "slots": 0, "load": 0}
    nothing = {"requests": 0, "completed": 0, "failed": 0, "cache_hits": 0}
    times = {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {"domain": name, **(served or nobody), **(asked or {**nothing, **times})}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any column value
    """PostgreSQL adds integers up to decimals."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def _table(name: str) -> Any:  # noqa: ANN401 - columns are looked up by name
    return METADATA.tables[name]


def _name() -> Any:  # noqa: ANN401 - a labelled expression
    """What a peer, or this node itself, calls itself."""
    return func.coalesce(_table("peers").c.name, _table("nodes").c.name, "").label("peer_name")


def _with_name(statement: Select[Any], table: Any) -> Select[Any]:  # noqa: ANN401 - as `_table`
    peers, nodes = _table("peers"), _table("nodes")
    named = statement.outerjoin(peers, and_(peers.c.peer == table.c.peer, peers.c.node == table.c.node))
    return named.outerjoin(nodes, nodes.c.node == table.c.peer)


def _is_open(state: ColumnElement[str]) -> ColumnElement[bool]:
    return state.in_(("raised", "acknowledged"))


def _answer(row: Mapping[Any, Any]) -> Answer:
    return {
        name: msgspec.json.decode(value) if name in _JSON and value is not None else value
        for name, value in row.items()
    }
