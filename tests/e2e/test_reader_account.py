"""The reader's account against somebody who wants to do more with it than read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from mesh.events.broker import BrokerAddress
from mesh.events.broker_settings import DIRECT_GET, READER_INFO
from mesh.events.journal import Journal
from mesh.events.readers import reader_instructions
from mesh.home import Home
from mesh.identity import Identity
from tests.kit.broker import open_journal, running_broker
from tests.kit.facts import stopped, suspected

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def connected(address: BrokerAddress) -> AsyncIterator[Client]:
    async def ignore(_error: Exception) -> None:
        """Refusals are what these tests are about."""

    client = await nats.connect(address.url, **address.options(), allow_reconnect=False, error_cb=ignore)
    try:
        yield client
    finally:
        await client.close()


class Scene:
    """A journal of ten events, the node's own connection that hears everything, and a reader."""

    def __init__(self, journal: Journal, node: Client, reader: Client) -> None:
        self.journal, self.node, self.reader = journal, node, reader
        self.heard: list[str] = []

    async def listen(self) -> None:
        async def hear(message: Msg) -> None:
            self.heard.append(message.subject)

        await self.node.subscribe(">", cb=hear)
        await self.node.flush()

    async def nothing_happened(self) -> None:
        """Every message of the reader has been processed by the server, and the node's world is as it was."""
        await self.reader.flush()
        await self.node.flush()
        await asyncio.sleep(0.1)
        info = await self.node.jetstream().stream_info("MESH_EVENTS")
        assert (info.state.messages, info.state.last_seq, info.state.num_deleted or 0) == (10, 10, 0)
        strange = [subject for subject in self.heard if not subject.startswith(("_INBOX.", "_R_.", "$JS."))]
        assert strange == []


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with running_broker(tmp_path) as broker:
        journal = await open_journal(broker, Identity.generate())
        for number in range(10):
            journal.emit(suspected(number))
        await journal.stored()
        async with connected(broker.address("node")) as node, connected(broker.address("reader")) as reader:
            scene = Scene(journal, node, reader)
            await scene.listen()
            yield scene
        await journal.close()


async def test_a_reader_sees_live_events_and_any_stored_one(scene: Scene) -> None:
    live = await scene.reader.subscribe("mesh.event.>")
    await scene.reader.flush()
    await scene.journal.emit(stopped()).stored()
    message = await live.next_msg(timeout=30)
    assert message.headers is not None
    assert (message.headers["Mesh-Position"], message.subject.rsplit(".", 2)[1:]) == ("11", ["node", "stopped"])
    info = await scene.reader.request(READER_INFO, b"", timeout=30)
    assert json.loads(info.data)["state"]["last_seq"] == 11
    seventh = await scene.reader.jetstream().get_msg("MESH_EVENTS", 7, direct=True)
    assert seventh.data is not None
    assert json.loads(seventh.data)["data"]["phi"] == 6.0


@pytest.mark.parametrize(
    "subject",
    [
        "mesh.event.12D3KooWEvil.node.stopped",
        "mesh.api.ask",
        "$JS.API.STREAM.DELETE.MESH_EVENTS",
        "$JS.API.STREAM.PURGE.MESH_EVENTS",
        "$JS.API.STREAM.UPDATE.MESH_EVENTS",
        "$JS.API.STREAM.INFO.MESH_EVENTS",
        "$JS.API.STREAM.CREATE.EVIL",
        "$JS.API.STREAM.MSG.DELETE.MESH_EVENTS",
        "$JS.API.STREAM.SNAPSHOT.MESH_EVENTS",
        "$JS.API.CONSUMER.CREATE.MESH_EVENTS.evil",
        "$JS.API.CONSUMER.DURABLE.CREATE.MESH_EVENTS.evil",
        "$JS.API.CONSUMER.MSG.NEXT.MESH_EVENTS.evil",
        "$SRV.PING",
        "$SYS.REQ.SERVER.PING",
        "anything.else",
    ],
)
async def test_a_reader_can_publish_nothing(scene: Scene, subject: str) -> None:
    request = {"seq": 1, "name": "MESH_EVENTS", "config": {"name": "evil", "deliver_subject": "mesh.api.ask"}}
    await scene.reader.publish(subject, json.dumps(request).encode(), reply="_INBOX.evil")
    await scene.nothing_happened()


@pytest.mark.parametrize("reply", ["mesh.api.ask", "mesh.event.12D3KooWEvil.node.stopped", "$JS.API.STREAM.INFO.X"])
@pytest.mark.parametrize(("service", "request_body"), [(DIRECT_GET, b'{"seq":1,"batch":5}'), (READER_INFO, b"")])
async def test_an_answer_cannot_be_aimed_at_the_node(
    scene: Scene, service: str, request_body: bytes, reply: str
) -> None:
    """The server answers to any reply subject; in the reader's own account that reaches nobody of the node's."""
    await scene.reader.publish(service, request_body, reply=reply)
    await scene.nothing_happened()


@pytest.mark.parametrize("subject", [">", "mesh.api.>", "$JS.>", "$SYS.>", "_R_.>"])
async def test_a_reader_can_listen_to_nothing_else(scene: Scene, subject: str) -> None:
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    await scene.reader.subscribe(subject, cb=hear)
    await scene.reader.flush()
    await scene.node.publish("mesh.api.secret", b"x")
    await scene.node.jetstream().stream_info("MESH_EVENTS")
    await scene.node.flush()
    await scene.reader.flush()
    await asyncio.sleep(0.1)
    assert heard == []


async def test_the_instructions_name_everything(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        given = reader_instructions(Home(tmp_path))
        assert (given.url, given.user, given.stream) == (broker.url, "reader", "MESH_EVENTS")
        compile(given.snippet(), "snippet", "exec")
        for word in (given.url, given.password, given.history, given.live):
            assert repr(word) in given.snippet()
