"""The journal on servers that are not ours: a cluster with three replicas, and servers that will not do."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.clock import SystemClock
from mesh.errors import BrokerError, JournalError
from mesh.events.audit_journal import audit_stored
from mesh.events.broker import BrokerAddress
from mesh.events.broker_embedded import find_server
from mesh.events.journal import Journal
from mesh.events.reader_nats import NatsEventReader
from mesh.events.store_nats import NatsEventStore
from tests.kit.cluster import running_cluster
from tests.kit.facts import suspected
from tests.kit.ports import free_ports, own_host
from tests.kit.records import OWNER
from tests.kit.waiting import until

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_the_leader_of_three_replicas_dies_under_load_and_nothing_is_lost(
    tmp_path: Path, durability: str
) -> None:
    async with running_cluster(tmp_path) as cluster:
        store = NatsEventStore(cluster.address, OWNER, durability=durability, replicas=3, flush_s=30)
        journal = Journal(OWNER, store, SystemClock())
        await journal.open()
        for number in range(3000):
            journal.emit(suspected(number))
            if number % 20 == 0:
                await asyncio.sleep(0)
        await until(lambda: journal.stored_position > 200, within=60, what="progress")
        cluster.kill(await cluster.leader())
        await asyncio.wait_for(journal.stored(), 60)
        await cluster.leader()
        report = await audit_stored(NatsEventReader(cluster.address), OWNER, journal.head)
        assert [finding for finding in report.findings if finding.kind != "unsealed"] == []
        assert report.events == 3000
        await journal.close()


@contextmanager
def server(place: Path, settings: str) -> Iterator[BrokerAddress]:
    host = own_host()
    (port,) = free_ports(host)
    (place / "nats.conf").write_text(f'listen: "{host}:{port}"\n{settings}\n')
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([find_server(), "-c", str(place / "nats.conf")], stdout=log, stderr=log)
    try:
        yield BrokerAddress(f"nats://{host}:{port}")
    finally:
        process.terminate()
        process.wait()


async def open_when_up(store: NatsEventStore) -> None:
    for _ in range(1500):
        try:
            await store.open()
        except BrokerError as error:
            if "Connect call failed" not in str(error):
                raise
            await asyncio.sleep(0.02)
        else:
            return
    pytest.fail("the server did not come up")


async def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    with server(tmp_path, "") as address, pytest.raises(BrokerError, match="no JetStream"):
        await open_when_up(NatsEventStore(address, OWNER))


async def test_a_server_that_takes_only_small_messages_is_refused(tmp_path: Path) -> None:
    settings = f'max_payload: 65536\njetstream {{ store_dir: "{tmp_path}/js" }}'
    with server(tmp_path, settings) as address, pytest.raises(BrokerError, match="at most 65536 bytes"):
        await open_when_up(NatsEventStore(address, OWNER))


async def test_more_replicas_than_there_are_servers_are_refused(tmp_path: Path) -> None:
    settings = f'jetstream {{ store_dir: "{tmp_path}/js" }}'
    with server(tmp_path, settings) as address, pytest.raises(JournalError, match="replicas 3"):
        await open_when_up(NatsEventStore(address, OWNER, replicas=3))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"storage": "memory"}, "storage = 'memory'"),
        ({"subjects": ["mesh.event.>", "other"]}, "subjects"),
        ({"max_age": 10**12}, "max_age"),
        ({"max_msgs": 5, "discard": "old"}, "max_msgs = 5"),
    ],
)
async def test_a_stream_of_that_name_that_could_lose_events_is_refused(
    tmp_path: Path, config: dict[str, object], words: str
) -> None:
    from mesh.events.connection import connect
    from mesh.events.jetstream import call

    with server(tmp_path, f'jetstream {{ store_dir: "{tmp_path}/js" }}') as address:
        store = NatsEventStore(address, OWNER)
        await open_when_up(store)
        await store.close()
        connection = await connect(address, name="vandal")
        await call(connection, "STREAM.DELETE.MESH_EVENTS")
        theirs = {"name": "MESH_EVENTS", "subjects": ["mesh.event.>"], "storage": "file", **config}
        await call(connection, "STREAM.CREATE.MESH_EVENTS", theirs)
        connection.close()
        with pytest.raises(JournalError) as refused:
            await NatsEventStore(address, OWNER).open()
        assert words in str(refused.value)
        assert "another NATS account" in refused.value.remedy
