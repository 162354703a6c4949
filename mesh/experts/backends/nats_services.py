"""NATS services that name their domains in their metadata, found by ``$SRV.INFO`` on the node's broker."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from pydantic import ValidationError

from mesh.config import ExpertConfig, WorkersConfig
from mesh.events.broker import Broker, BrokerAddress
from mesh.events.connection import Connection, connect
from mesh.events.wire import NO_RESPONDERS, Message, publication, status_of
from mesh.experts.backends.nats import NatsBackend, NatsOptions
from mesh.experts.recruiting import Recruit, expert_name

DOMAINS = "mesh.domains"
_INFO_SID = 2
# How long replies are waited for after the last one.
_QUIET_S = 0.3
_MOST_REPLIES = 1000
_SERVICE = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_SUBJECT = re.compile(r"^[^\s*>]{1,256}$")

log = structlog.get_logger(__name__)


class NatsServices:
    """See `mesh.experts.recruiting.ExpertSource`. ``address`` is asked for at each connection."""

    name = "NATS services"

    def __init__(self, address: Callable[[], BrokerAddress]) -> None:
        self._address = address
        self._connection: Connection | None = None
        self._replies: asyncio.Queue[Message] = asyncio.Queue()

    async def find(self) -> Sequence[Recruit]:
        """See `ExpertSource.find`."""
        connection = await self._connected()
        connection.write(publication("$SRV.INFO", b"", reply=f"{connection.inbox}.info.1"))
        infos: list[dict[str, Any]] = []
        with suppress(TimeoutError):
            for _ in range(_MOST_REPLIES):
                async with asyncio.timeout(_QUIET_S):
                    _, _, _, headers, body = await self._replies.get()
                if status_of(headers) == NO_RESPONDERS:
                    break
                infos.append(_decoded(body))
        return recruits(infos, self._address())

    async def close(self) -> None:
        """See `ExpertSource.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connected(self) -> Connection:
        self._replies = asyncio.Queue()
        if self._connection is None:
            connection = await connect(self._address(), name="mesh: finds experts")
            connection.on_messages = self._heard
            connection.on_lost = self._lost
            connection.subscribe(f"{connection.inbox}.info.*", _INFO_SID)
            self._connection = connection
        return self._connection

    def _heard(self, messages: list[Message]) -> None:
        for message in messages:
            self._replies.put_nowait(message)

    def _lost(self, _error: Exception) -> None:
        self._connection = None


def services_at(broker: Broker, workers: WorkersConfig, *, ours: bool) -> list[NatsServices]:
    """Who looks for them at the node's broker; at one that is not ``ours`` only where the operator says so."""
    wanted = workers.enabled and (ours or workers.external)
    return [NatsServices(lambda: broker.address("recruiter"))] if wanted else []


def recruits(infos: Sequence[dict[str, Any]], address: BrokerAddress) -> list[Recruit]:
    """An expert for each service that names domains; its instances' capacities add up. Others are left alone."""
    by_service: dict[str, list[dict[str, Any]]] = {}
    for info in infos:
        metadata = info.get("metadata")
        name = info.get("name")
        if isinstance(metadata, dict) and DOMAINS in metadata and isinstance(name, str) and _SERVICE.match(name):
            by_service.setdefault(name, []).append(info)
    found = [_recruit(name, instances, address) for name, instances in sorted(by_service.items())]
    return [recruit for recruit in found if recruit is not None]


def _recruit(service: str, instances: list[dict[str, Any]], address: BrokerAddress) -> Recruit | None:
    instances = sorted(instances, key=lambda info: str(info.get("id")))
    metadata: dict[str, Any] = instances[0]["metadata"]
    features = _words(metadata.get("mesh.features", ""))
    try:
        config = ExpertConfig.model_validate(
            {
                "name": expert_name(service),
                "backend": "nats",
                "domains": _words(metadata[DOMAINS]),
                "concurrency": min(1024, sum(int(i["metadata"].get("mesh.concurrency", 4)) for i in instances)),
                "quality": float(metadata.get("mesh.quality", 0.5)),
                **({"price": float(metadata["mesh.price"])} if "mesh.price" in metadata else {}),
            }
        )
        options = NatsOptions(
            url=address.url,
            subject=_subject(instances[0]),
            service=service,
            model=str(metadata.get("mesh.model") or f"{service} {instances[0].get('version', '')}".strip())[:128],
            chat="chat" in features,
            tools="tools" in features,
        )
    except (ValidationError, ValueError, TypeError) as error:
        log.warning("a NATS service cannot be an expert", service=service, problem=" ".join(str(error).split())[:300])
        return None
    identity = json.dumps([config.model_dump(mode="json"), options.model_dump(mode="json")], sort_keys=True)
    return Recruit(config, identity, lambda: NatsBackend(options, config.concurrency, address=address))


def _subject(info: dict[str, Any]) -> str:
    endpoints = [each for each in info.get("endpoints") or () if isinstance(each, dict)]
    named = [each for each in endpoints if DOMAINS in (each.get("metadata") or {})]
    subject = str((named or endpoints or [{}])[0].get("subject"))
    if not _SUBJECT.match(subject) or not endpoints:
        raise ValueError(f"it has no endpoint with a subject that can be asked: {subject[:64]!r}")
    return subject


def _words(text: object) -> list[str]:
    return [word for word in re.split(r"[,\s]+", str(text)) if word]


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        info = json.loads(body)
    except (ValueError, RecursionError):
        info = None
    return info if isinstance(info, dict) else {}
