"""Three nats-servers that form a cluster, as somebody else would run it."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.errors import BrokerError
from mesh.events.broker import BrokerAddress
from mesh.events.broker_embedded import find_server
from mesh.events.connection import connect
from mesh.events.jetstream import JetStreamError, call
from tests.kit.ports import free_ports, own_host

SIZE = 3


class Cluster:
    """The servers by name, and the address that names them all."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.host = own_host()
        self.ports = free_ports(self.host, 2 * SIZE)
        self.address = BrokerAddress(",".join(f"nats://{self.host}:{port}" for port in self.ports[:SIZE]))
        self.servers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        number = int(name[1:])
        routes = ", ".join(f'"nats://{self.host}:{port}"' for port in self.ports[SIZE:])
        config = self.place / f"{name}.conf"
        config.write_text(
            f'server_name: {name}\nlisten: "{self.host}:{self.ports[number]}"\n'
            f'jetstream {{ store_dir: "{self.place}/{name}", max_file_store: 1GB, max_memory_store: 64MB }}\n'
            f'cluster {{ name: c, listen: "{self.host}:{self.ports[SIZE + number]}", routes: [{routes}] }}\n'
        )
        with (self.place / f"{name}.log").open("ab") as log:
            self.servers[name] = subprocess.Popen([find_server(), "-c", str(config)], stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        self.servers[name].send_signal(signal.SIGKILL)
        self.servers[name].wait()

    async def ready(self, within: float = 60.0) -> None:
        """Return once the cluster has a leader for streams of three replicas."""
        probe = {"name": "PROBE", "subjects": ["probe"], "num_replicas": SIZE}
        async with asyncio.timeout(within):
            while True:
                try:
                    connection = await connect(self.address, name="cluster probe", timeout=1)
                    try:
                        await call(connection, "STREAM.CREATE.PROBE", probe)
                        return
                    finally:
                        connection.close()
                except (BrokerError, JetStreamError):
                    await asyncio.sleep(0.1)

    async def leader(self, within: float = 60.0) -> str:
        """The server that leads the journal's stream, once one does."""
        async with asyncio.timeout(within):
            while True:
                try:
                    if name := await self._leader_now():
                        return name
                except BrokerError:
                    await asyncio.sleep(0.1)

    async def _leader_now(self) -> str:
        connection = await connect(self.address, name="cluster probe")
        try:
            info = await call(connection, "STREAM.INFO.MESH_EVENTS")
            return str(info["cluster"].get("leader", ""))
        finally:
            connection.close()


@asynccontextmanager
async def running_cluster(place: Path) -> AsyncIterator[Cluster]:
    """A cluster that has elected its leader."""
    cluster = Cluster(place)
    try:
        for number in range(SIZE):
            cluster.start(f"n{number}")
        await cluster.ready()
        yield cluster
    finally:
        for server in cluster.servers.values():
            server.kill()
            server.wait()
