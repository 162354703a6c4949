"""The journal's JetStream stream: made as it has to be, or refused when it is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh.errors import JournalError
from mesh.events import jetstream
from mesh.events.connection import Connection
from mesh.events.jetstream import JetStreamError, StreamState
from mesh.events.subjects import ALL, STREAM

_UNLIMITED = -1


@dataclass(frozen=True)
class StreamSettings:
    """What may differ between nodes: a limit (0: none), and how many servers of a cluster hold a copy."""

    max_bytes: int = 0
    replicas: int = 1

    def config(self) -> dict[str, Any]:
        """The stream's configuration. Nothing in it ever removes an event, and nobody may."""
        return {
            "name": STREAM,
            "subjects": [ALL],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_bytes": self.max_bytes or _UNLIMITED,
            "num_replicas": self.replicas,
            "deny_delete": True,
            "deny_purge": True,
            "allow_direct": True,
            "allow_atomic": True,
            "compression": "s2",
        }


async def open_stream(connection: Connection, settings: StreamSettings) -> StreamState:
    """The stream, created if there is none and adjusted where that is harmless.

    Raises JournalError when an existing one could lose events or is not the journal's, naming the setting.
    """
    wanted = settings.config()
    try:
        state = await jetstream.stream_state(connection)
    except JetStreamError as error:
        if error.code != jetstream.STREAM_NOT_FOUND:
            raise
        return await _put(connection, "CREATE", wanted)
    _refuse_unsafe(state.config)
    differing = {name for name, value in wanted.items() if state.config.get(name) != value}
    return await _put(connection, "UPDATE", {**state.config, **wanted}) if differing else state


async def _put(connection: Connection, verb: str, config: Mapping[str, Any]) -> StreamState:
    try:
        return jetstream.state_in(await jetstream.call(connection, f"STREAM.{verb}.{STREAM}", config))
    except JetStreamError as error:
        raise JournalError(
            f"the stream {STREAM} cannot be {verb.lower()}d: {error.description}"
            f" (max_bytes {config['max_bytes']}, replicas {config['num_replicas']})",
            remedy="Check `max_bytes` and `replicas` in [broker] against what the server allows, and its free disk.",
        ) from error


def _refuse_unsafe(config: Mapping[str, Any]) -> None:
    for name, required in (("storage", "file"), ("retention", "limits"), ("subjects", [ALL])):
        if config.get(name) != required:
            raise JournalError(
                f"the stream {STREAM} has {name} = {config.get(name)!r}, a journal needs {required!r}",
                remedy="Something else made this stream: use another NATS account for the node.",
            )
    for name in ("max_age", "max_msgs", "max_msgs_per_subject"):
        if config.get(name, 0) > 0:
            raise JournalError(
                f"the stream {STREAM} has {name} = {config[name]}, which removes events",
                remedy=f"Set {name} to unlimited, or use another NATS account for the node.",
            )
