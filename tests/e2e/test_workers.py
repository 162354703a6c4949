"""Experts that nobody configured: services on the broker and models of a server, found, asked, lost and found again."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import nats
import nats.errors
import pytest

from mesh.api.client import Mesh
from mesh.clock import SystemClock
from mesh.config import BrokerConfig, ExpertConfig, WorkersConfig
from mesh.errors import ConfigError
from mesh.events.broker import BrokerAddress
from mesh.events.broker_embedded import EmbeddedBroker
from mesh.events.broker_external import ExternalBroker
from mesh.events.codec import decode
from mesh.events.journal import Journal
from mesh.events.store_memory import MemoryEventStore
from mesh.events.vocabulary.experts import ExpertDeregistered, ExpertRegistered
from mesh.events.workers import worker_instructions
from mesh.experts.backends import source_of
from mesh.experts.backends.nats_services import NatsServices, services_at
from mesh.experts.calls import Answer, AttemptFailed
from mesh.experts.host import LocalExperts
from mesh.experts.recruiter import Recruiter
from mesh.experts.recruiting import ExpertSource
from mesh.home import Home
from tests.kit.broker import running_broker
from tests.kit.hosting import CALLER, NODE, call
from tests.kit.nats_worker import Seen, worker
from tests.kit.nodes import config, offered, running_node
from tests.kit.openai_server import model_server
from tests.kit.waiting import until

pytestmark = pytest.mark.e2e


class Hall:
    """Experts of one node with a recruiter, and what the journal has of their coming and going."""

    def __init__(self) -> None:
        self._requests = count()
        self.store = MemoryEventStore(NODE.peer_id)
        self.journal = Journal(NODE.peer_id, self.store, SystemClock())
        self.experts = LocalExperts([], NODE, self.journal, SystemClock())

    @property
    def names(self) -> list[str]:
        return sorted(offer.expert for offer in self.experts.offers() if offer.available)

    @property
    def story(self) -> list[str]:
        facts = [decode(record).fact for record in self.store.records]
        said = {ExpertRegistered: "+", ExpertDeregistered: "-"}
        return [f"{said[type(fact)]}{fact.expert}" for fact in facts if type(fact) in said]

    async def ask(self, content: str, *, expert: str, pieces: list[str] | None = None) -> Answer:
        async def emit(piece: str) -> None:
            if pieces is not None:
                pieces.append(piece)

        asked = call(content, expert=expert, request=f"r{next(self._requests)}", timeout_ms=20_000)
        return await self.experts.ask(asked, emit, caller=CALLER)


@asynccontextmanager
async def hall(source: ExpertSource) -> AsyncIterator[Hall]:
    it = Hall()
    await it.journal.open()
    await it.experts.start()
    recruiter = Recruiter([source], it.experts, SystemClock(), interval_s=0.1)
    await recruiter.start()
    try:
        yield it
        assert recruiter.keeper.task is not None
        assert not recruiter.keeper.task.done()
    finally:
        await recruiter.stop()
        await it.experts.stop()
        await it.journal.close()


def services(broker: EmbeddedBroker) -> NatsServices:
    return NatsServices(lambda: broker.address("recruiter"))


async def test_a_service_is_an_expert_as_long_as_it_is_there(tmp_path: Path):
    seen = Seen()
    async with running_broker(tmp_path) as broker, hall(services(broker)) as it:
        async with worker(broker, seen=seen, concurrency="2"), worker(broker, "other"):
            await until(lambda: it.names == ["kit", "other"], what="the two experts")
            offer = next(offer for offer in it.experts.offers() if offer.expert == "kit")
            assert (offer.model, offer.domains, offer.concurrency) == ("kit 1.0.0", ("language", "poetry"), 2)
            pieces: list[str] = []
            answer = await it.ask("say hello", expert="kit", pieces=pieces)
            assert (answer.text, answer.model, answer.tokens_out) == ("hello", "kit 2", 5)
            assert pieces == list("hello")
            assert seen.calls[0].keys() == {
                *("request", "domain", "task", "content", "chat", "options", "timeout_ms")
            }  # fmt: skip
        await until(lambda: it.names == [], what="the end of the experts")
        async with worker(broker):
            await until(lambda: it.names == ["kit"], what="the expert")
        await until(lambda: len(it.story) >= 5, what="the story in the journal")
        assert [sorted(it.story[:2]), sorted(it.story[2:4])] == [["+kit", "+other"], ["-kit", "-other"]]
        assert it.story[4] == "+kit"


async def test_what_a_worker_does_wrong_is_its_calls_failure_alone(tmp_path: Path):
    seen = Seen()
    async with running_broker(tmp_path) as broker, hall(services(broker)) as it, worker(broker, seen=seen):
        await until(lambda: it.names == ["kit"], what="the expert")
        for content, kind, said in (
            ("too long", "invalid", "too long for this worker"),
            ("junk", "failed", "not UTF-8"),
            ("flood", "failed", "the limit"),
        ):
            with pytest.raises(AttemptFailed, match=said) as caught:
                await it.ask(content, expert="kit")
            assert caught.value.kind == kind
            assert (await it.ask("hello", expert="kit")).text == "hello"


async def test_a_call_that_is_taken_back_is_told_to_the_worker(tmp_path: Path):
    seen, pieces = Seen(), []
    async with running_broker(tmp_path) as broker, hall(services(broker)) as it, worker(broker, seen=seen):
        await until(lambda: it.names == ["kit"], what="the expert")
        asking = asyncio.create_task(it.ask("forever", expert="kit", pieces=pieces))
        await until(lambda: len(pieces) == 5, what="the pieces")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: bool(seen.cancelled), what="the cancel")
        assert seen.cancelled == [seen.headers[0]["Mesh-Cancel"]]


async def test_the_printed_worker_works_and_kill_9_of_it_fails_its_call_and_nothing_else(tmp_path: Path):
    async with running_broker(tmp_path) as broker, hall(services(broker)) as it:
        snippet = worker_instructions(Home(tmp_path)).snippet()
        hanging = snippet.replace(
            "    if not call", "    if call['content'] == 'hang':\n        return\n    if not call"
        )
        (tmp_path / "worker.py").write_text(hanging)
        process = await asyncio.create_subprocess_exec(sys.executable, str(tmp_path / "worker.py"))
        try:
            await until(lambda: it.names == ["reverser"], what="the expert")
            assert (await it.ask("abc", expert="reverser")).text == "cba"
            with pytest.raises(AttemptFailed, match="nothing to reverse"):
                await it.ask("", expert="reverser")
            asking = asyncio.create_task(it.ask("hang", expert="reverser"))
            await until(lambda: it.experts.in_flight == 1, what="the call")
            os.kill(process.pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                with pytest.raises(AttemptFailed) as caught:
                    await asking
            assert caught.value.kind == "unavailable"
            await until(lambda: it.names == [], what="the end of the expert")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_a_worker_reads_nobodys_replies_and_reaches_neither_journal_nor_node(tmp_path: Path):
    refused: list[str] = []

    async def complain(error: Exception) -> None:
        refused.append(str(error).lower())

    async with running_broker(tmp_path) as broker:
        address = broker.address("worker")
        client = await nats.connect(address.url, **address.options(), error_cb=complain)
        node = await nats.connect(broker.url, **broker.address("node").options())
        heard: list[str] = []
        try:

            async def hear(message) -> None:
                heard.append(message.subject)

            await node.subscribe(">", cb=hear)
            await node.flush()
            for subject in ("mesh.api.ask", "$SRV.INFO", "mesh.event.x.request.received", "$JS.API.STREAM.DELETE.X"):
                await client.publish(subject, b"{}")
            await client.subscribe("_INBOX.>")
            await client.flush()
            await until(lambda: len(refused) >= 5, what="five refusals")
            assert all("permissions violation" in text for text in refused)
            await client.publish("_INBOX.guess", b"{}")  # allowed, and in another account
            await client.flush()
            await node.flush()
            assert [subject for subject in heard if not subject.startswith(("$SYS", "$JS"))] == []
        finally:
            await client.close()
            await node.close()


async def test_experts_survive_a_broker_that_is_killed(tmp_path: Path):
    async with running_broker(tmp_path) as broker, hall(services(broker)) as it, worker(broker):
        await until(lambda: it.names == ["kit"], what="the expert")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)

        async def asked() -> str:
            try:
                return (await it.ask("hello", expert="kit")).text
            except AttemptFailed as failed:
                return failed.kind

        async with asyncio.timeout(60):
            while await asked() != "hello":
                await asyncio.sleep(0.1)


async def test_the_models_of_a_server_are_experts_as_they_come_and_go():
    async with model_server() as server:
        server.models = ["llama3.2:3b", "nomic-embed-text", "secret-model"]
        options = {"base_url": server.base_url, "models": "auto", "only": ["llama*", "nomic*", "qwen*"], "tools": True}
        config = ExpertConfig(name="ollama", backend="openai", domains=["language"], options=options)
        source = source_of(config)
        assert source is not None
        async with hall(source) as it:
            await until(lambda: it.names == ["ollama.llama3.2-3b", "ollama.nomic-embed-text"], what="two experts")
            features = {offer.expert: offer.features for offer in it.experts.offers()}
            assert features["ollama.nomic-embed-text"] == ("embeddings",)
            assert features["ollama.llama3.2-3b"] == ("chat", "tools")
            assert (await it.ask("say hello", expert="ollama.llama3.2-3b")).text == "hello"
            assert server.requests[-1].body["model"] == "llama3.2:3b"
            server.models = ["llama3.2:3b", "qwen3"]
            await until(lambda: it.names == ["ollama.llama3.2-3b", "ollama.qwen3"], what="the other model")
            await until(
                lambda: it.story[2:] == ["+ollama.qwen3", "-ollama.nomic-embed-text"], what="the story in the journal"
            )


def kept(address: BrokerAddress, file: Path) -> Path:
    file.write_text(json.dumps({"user": address.user, "password": address.password}))
    return file


async def test_services_of_an_external_server_are_taken_in_where_its_operator_says_so(tmp_path: Path):
    async with running_broker(tmp_path / "theirs") as theirs, worker(theirs):
        journal = kept(theirs.address("node"), tmp_path / "journal.json")
        recruiter = kept(theirs.address("recruiter"), tmp_path / "recruiter.json")
        settings = (
            f'[broker]\nurl = "{theirs.url}"\ncredentials = "{journal}"\n'
            f'[workers]\ninterval_s = 0.2\nexternal = true\ncredentials = "{recruiter}"\n'
        )
        async with running_node(tmp_path, "node", config("node", extra=settings)) as node:
            await offered(node, 1)
            async with Mesh.connect(node.home.root) as mesh:
                assert (await mesh.ask("say hello", domain="poetry", timeout=60)).text == "hello"


def test_by_default_nobody_is_looked_for_at_a_server_that_is_not_ours():
    external = ExternalBroker(BrokerConfig(url="nats://127.0.0.1:1"))
    assert not services_at(external, WorkersConfig(), ours=False)
    assert services_at(external, WorkersConfig(external=True), ours=False)
    assert services_at(external, WorkersConfig(), ours=True)
    assert not services_at(external, WorkersConfig(enabled=False, external=True), ours=True)
    with pytest.raises(ConfigError, match=r"workers\.credentials = '/nowhere' cannot be used"):
        ExternalBroker(BrokerConfig(url="nats://127.0.0.1:1"), recruiter_credentials="/nowhere")
