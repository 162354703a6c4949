"""What the demo does, step by step. Every step is real: real processes, real requests, a real kill -9."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from mesh.api.client import Mesh, Outcome
from mesh.config import StorageConfig
from mesh.demo.nodes import DemoNode, until
from mesh.demo.questions import CONSENSUS_QUESTION, LONG_QUESTION, QUESTIONS
from mesh.demo.screen import Screen
from mesh.errors import MeshError
from mesh.events.readers import load_credentials
from mesh.events.subjects import subject_of
from mesh.projections.database import database_url
from mesh.projections.queries import Queries

FOUND_WITHIN_S = 45.0
OFFERED_WITHIN_S = 30.0
ALERT_WITHIN_S = 20.0
DISPATCHED_WITHIN_S = 10.0
AT_ONCE = 3


class Story:
    """The steps, told through one of the nodes, ``entry``; the others are the mesh."""

    def __init__(self, nodes: list[DemoNode], screen: Screen) -> None:
        self.nodes = nodes
        self.entry = nodes[0]
        self._screen = screen
        self._by_peer = {node.peer_id: node for node in nodes}
        self.outcomes: list[Outcome] = []

    async def find_each_other(self) -> None:
        """Wait until every node is connected to every other one, and the entry knows all experts."""

        async def complete() -> bool:
            statuses = await asyncio.gather(*(node.status() for node in self.nodes))
            return all(len(status.connected) == len(self.nodes) - 1 for status in statuses)

        took = await until(complete, within=FOUND_WITHIN_S, what="the nodes did not all connect")
        pairs = len(self.nodes) * (len(self.nodes) - 1) // 2
        self._screen.done(f"{len(self.nodes)} nodes, {pairs} connections, {took:.1f} s after the last node was up")
        expected = sum(len(node.member.experts) for node in self.nodes)
        async with self.tables() as tables:

            async def offered() -> bool:
                return len(await tables.experts()) >= expected

            took = await until(offered, within=OFFERED_WITHIN_S, what=f"not all {expected} experts were offered")
        self._screen.done(f"{expected} experts on offer")

    async def ask_everything(self) -> None:
        """Thirty questions over six domains, a few at a time, each answer printed."""
        gate = asyncio.Semaphore(AT_ONCE)
        async with Mesh.connect(self.entry.home.root) as mesh:

            async def ask(number: int) -> None:
                question = QUESTIONS[number]
                async with gate:
                    outcome = await mesh.ask(question.content, domain=question.domain, options=dict(question.options))
                self.outcomes.append(outcome)
                self._screen.answer(question, outcome, self.name_of(outcome.peers[0]))

            await asyncio.gather(*(ask(number) for number in range(len(QUESTIONS))))

    async def kill_a_busy_node(self) -> tuple[Outcome, DemoNode]:
        """Ask something long, kill -9 the node that works on it, and get the answer from another."""
        async with self._events("request.dispatched") as dispatched, Mesh.connect(self.entry.home.root) as mesh:
            asking = asyncio.create_task(
                mesh.ask(
                    LONG_QUESTION.content,
                    domain=LONG_QUESTION.domain,
                    delivery="whole",
                    options=dict(LONG_QUESTION.options),
                )
            )
            async with asyncio.timeout(DISPATCHED_WITHIN_S):
                busy = self._by_peer[(await dispatched.get())["peer"]]

            async def working() -> bool:
                return (await busy.status()).serving > 0

            await until(working, within=DISPATCHED_WITHIN_S, what=f"{busy.name} did not begin to work")
            self._screen.step(f"{busy.name} works on it: kill -9 {busy.process.pid if busy.process else '?'}")
            await busy.kill()
            outcome = await asking
        other = self.name_of(outcome.peers[0])
        if outcome.attempts < 2 or other == busy.name:
            raise MeshError(f"the request was answered by {other} on attempt {outcome.attempts}, not failed over")
        self.outcomes.append(outcome)
        self._screen.done(f"answered by {other} on attempt {outcome.attempts}, {outcome.latency_ms:,.0f} ms in all")
        self._screen.quote(outcome.text)
        return outcome, busy

    async def alert_and_return(self, dead: DemoNode) -> None:
        """The loss raises an alert; the node comes back, resumes from its store, and the alert resolves."""
        async with self.tables() as tables:

            async def in_state(state: str) -> bool:
                return any(
                    alert["state"] == state and alert["target"] == dead.peer_id and alert["rule"] == "peer_lost"
                    for alert in await tables.alerts(open_only=False)
                )

            await until(lambda: in_state("raised"), within=ALERT_WITHIN_S, what="no alert was raised")
            self._screen.done(f"alert peer_lost/{dead.name} raised")
            await dead.start()
            epoch, resumed_from = await self._last_start(dead)
            self._screen.done(f"{dead.name} is back: start number {epoch}, resumed from position {resumed_from}")
            took = await until(lambda: in_state("resolved"), within=ALERT_WITHIN_S, what="the alert did not resolve")
            self._screen.done(f"alert resolved ({took:.1f} s later)")

    async def _last_start(self, node: DemoNode) -> tuple[int, int]:
        """The node's epoch and the position that it resumed from, out of its own tables."""
        epoch = (await node.status()).epoch
        async with Queries(database_url(node.home, StorageConfig())) as tables:

            async def projected() -> bool:
                return bool(await rows())

            async def rows() -> list[tuple[int]]:
                _, found = await tables.sql("SELECT node, epoch, resumed_from FROM nodes", 100)
                return [
                    (resumed_from,) for peer, start, resumed_from in found if (peer, start) == (node.peer_id, epoch)
                ]

            await until(projected, within=ALERT_WITHIN_S, what=f"the start of {node.name} did not reach its tables")
            return epoch, (await rows())[0][0]

    async def reach_consensus(self) -> None:
        """Ask three experts the same, and count signed votes."""
        async with Mesh.connect(self.entry.home.root) as mesh:
            outcome = await mesh.ask(
                CONSENSUS_QUESTION.content, domain=CONSENSUS_QUESTION.domain, strategy="consensus", fan_out=3
            )
        self.outcomes.append(outcome)
        self._screen.quote(outcome.text)
        for vote in outcome.votes:
            mark = "agrees" if vote.agrees else "DISSENTS"
            self._screen.step(f"{self.name_of(vote.peer)}/{vote.expert} {mark}, signed {vote.answer_digest[:12]}")
        count = outcome.count
        assert count is not None
        for target in count.laggards:
            peer, _, expert = target.partition("/")
            self._screen.step(f"{self.name_of(peer)}/{expert} had not answered when the outcome was certain")
        self._screen.done(f"{count.support} of {count.asked} asked agree, {count.quorum} were needed")

    async def explain(self, outcome: Outcome) -> None:
        """`mesh why` of the request that failed over."""
        await self._run("why", outcome.request)

    async def rebuild_and_compare(self) -> None:
        """Rebuild every table of the entry node from its journal, and compare digests."""
        await self._run("digest", "--check")
        await self._run("audit", "verify")

    async def _run(self, *arguments: str) -> None:
        status, output, errors = await self.entry.command(*arguments)
        self._screen.output(f"mesh {' '.join(arguments)}", output + errors)
        if status:
            raise MeshError(f"`mesh {arguments[0]}` failed with exit code {status}")

    def name_of(self, peer: str) -> str:
        """What the demo calls a peer."""
        node = self._by_peer.get(peer)
        return node.name if node is not None else peer[-8:]

    @asynccontextmanager
    async def tables(self) -> AsyncIterator[Queries]:
        """The entry node's tables."""
        async with Queries(database_url(self.entry.home, StorageConfig()), node=self.entry.peer_id) as tables:
            yield tables

    @asynccontextmanager
    async def _events(self, fact_type: str) -> AsyncIterator["asyncio.Queue[dict[str, Any]]"]:
        """The entry node's events of one type, live, as any outside tool would follow them."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def hear(message: Msg) -> None:
            queue.put_nowait(json.loads(message.data)["data"])

        reader = load_credentials(self.entry.home, "reader")
        client = Client()
        await client.connect(reader.url, **reader.options())
        try:
            await client.subscribe(subject_of(self.entry.peer_id, fact_type), cb=hear)
            await client.flush()
            yield queue
        finally:
            await client.close()
