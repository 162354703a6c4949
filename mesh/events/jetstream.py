"""The few requests of the JetStream API that the journal makes: its stream, and consumers that read it.

https://docs.nats.io/reference/reference-protocols/nats_api_reference
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mesh.errors import BrokerError
from mesh.events.connection import Connection
from mesh.events.subjects import STREAM

API = "$JS.API"
STREAM_NOT_FOUND = 10059
MESSAGE_NOT_FOUND = 10037
_CONSUMER_IDLE_NS = 60 * 10**9


class JetStreamError(BrokerError):
    """JetStream refused a request; ``code`` is its ``err_code``."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"JetStream says: {description} (error {code})")
        self.code = code
        self.description = description


class StreamState(NamedTuple):
    """What the stream holds, and how it is configured."""

    first: int
    last: int
    bytes: int
    config: Mapping[str, Any]


class StoredMessage(NamedTuple):
    """One message as it is stored."""

    sequence: int
    subject: str
    headers: bytes
    payload: bytes


async def call(connection: Connection, request: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One request of the API. Raises JetStreamError when it is refused, BrokerError when nobody answers."""
    payload = json.dumps(body).encode() if body is not None else b""
    reply = await connection.request(f"{API}.{request}", payload)
    if reply.status:
        raise BrokerError("the NATS server has no JetStream, or it is just starting")
    answer: dict[str, Any] = json.loads(reply.payload)
    if "error" in answer:
        raise JetStreamError(answer["error"].get("err_code", 0), answer["error"].get("description", ""))
    return answer


async def stream_state(connection: Connection) -> StreamState:
    """The journal's stream. Raises JetStreamError with STREAM_NOT_FOUND when there is none."""
    return state_in(await call(connection, f"STREAM.INFO.{STREAM}"))


def state_in(answer: Mapping[str, Any]) -> StreamState:
    """The state in an answer to a request about the stream."""
    state = answer["state"]
    return StreamState(state["first_seq"], state["last_seq"], state["bytes"], answer["config"])


async def message_at(connection: Connection, sequence: int) -> StoredMessage | None:
    """One stored message, None when the stream does not have it."""
    try:
        answer = await call(connection, f"STREAM.MSG.GET.{STREAM}", {"seq": sequence})
    except JetStreamError as error:
        if error.code == MESSAGE_NOT_FOUND:
            return None
        raise
    message = answer["message"]
    headers = base64.b64decode(message.get("hdrs", ""))
    return StoredMessage(message["seq"], message["subject"], headers, base64.b64decode(message.get("data", "")))


async def create_reader(connection: Connection, name: str, first: int) -> None:
    """An ephemeral pull consumer without acknowledgements, from sequence ``first``; it goes when it is not used."""
    config = {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": first,
        "ack_policy": "none",
        "replay_policy": "instant",
        "inactive_threshold": _CONSUMER_IDLE_NS,
        "mem_storage": True,
        "num_replicas": 1,
    }
    await call(connection, f"CONSUMER.CREATE.{STREAM}.{name}", {"stream_name": STREAM, "config": config})


async def delete_reader(connection: Connection, name: str) -> None:
    """Drop a consumer at once instead of leaving it to time out."""
    await call(connection, f"CONSUMER.DELETE.{STREAM}.{name}")
