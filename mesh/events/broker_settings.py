"""What the embedded nats-server is told: addresses, durability, and the users of three accounts.

The accounts are the point. Readers get one of their own, into which the journal's subjects and two read-only
services are imported: whatever they ask for, the answer cannot land in the account where the node listens. Mere
permissions would not do, since a pull request makes the server deliver stored messages to any reply subject.

Workers, services that are experts, get a third one, which is joined to nothing: the node comes to them, as a user of
that account, and they reply. A worker cannot read other workers' replies or ask anybody anything.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mesh.events.subjects import ALL, STREAM

# The server would otherwise allow itself 75% of what is free when it starts, and refuse a journal that fills more.
_MAX_FILE_STORE = 1 << 50
_MAX_MEMORY_STORE = 256 << 20
_AUTHENTICATION_S = 15  # the default of 2 s is too short for a client on a machine that is short of time
_LOG_BYTES = 10 << 20
# A prompt of 4 MiB (routing.max_content_bytes) with its escapes in JSON; nats-server warns of more.
_MAX_PAYLOAD = 8 << 20

DIRECT_GET = f"$JS.API.DIRECT.GET.{STREAM}"
STREAM_INFO = f"$JS.API.STREAM.INFO.{STREAM}"
OPERATOR_MAY_PUBLISH = (
    "mesh.api.>",
    "$SRV.>",
    "$JS.API.INFO",
    STREAM_INFO,
    DIRECT_GET,
    f"{DIRECT_GET}.>",
    f"$JS.API.STREAM.MSG.GET.{STREAM}",
    f"$JS.API.CONSUMER.CREATE.{STREAM}.>",
    f"$JS.API.CONSUMER.INFO.{STREAM}.>",
    f"$JS.API.CONSUMER.DELETE.{STREAM}.>",
    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.>",
)
# In the readers' account JetStream's own API would answer to STREAM_INFO as well, that it is not enabled there.
READER_INFO = "mesh.history.info"
READER_MAY_PUBLISH = (DIRECT_GET, READER_INFO)
# Replies, to subjects that cannot be guessed.
WORKER_MAY_PUBLISH = ("_INBOX.>",)


@dataclass(frozen=True)
class ServerSettings:
    """One nats-server. ``passwords`` are of all users, by role."""

    name: str
    host: str
    port: int
    directory: Path
    durability: Literal["process", "power"]
    passwords: dict[str, str]

    @property
    def config_file(self) -> Path:
        """Where the rendered settings go; it holds passwords."""
        return self.directory / "nats-server.conf"

    @property
    def pid_file(self) -> Path:
        """Written by the server."""
        return self.directory / "nats-server.pid"

    @property
    def log_file(self) -> Path:
        """Written, and rotated, by the server."""
        return self.directory / "nats-server.log"

    @property
    def store(self) -> Path:
        """JetStream's files."""
        return self.directory / "store"

    def render(self) -> str:
        """The configuration file: JSON is a subset of what nats-server reads."""
        return json.dumps(self._tree(), indent=1) + "\n"

    def _tree(self) -> dict[str, object]:
        return {
            "server_name": self.name,
            "host": self.host,
            "port": self.port,
            "pid_file": str(self.pid_file),
            "log_file": str(self.log_file),
            "logfile_size_limit": _LOG_BYTES,
            "logfile_max_num": 3,
            "max_payload": _MAX_PAYLOAD,
            "jetstream": {
                "store_dir": str(self.store),
                "sync_interval": "always" if self.durability == "power" else "1s",
                "max_file_store": _MAX_FILE_STORE,
                "max_memory_store": _MAX_MEMORY_STORE,
            },
            "authorization": {"timeout": _AUTHENTICATION_S},
            "accounts": {
                "NODE": self._node_account(),
                "READER": self._reader_account(),
                "WORKER": self._worker_account(),
            },
        }

    def _node_account(self) -> dict[str, object]:
        may = {"publish": {"allow": OPERATOR_MAY_PUBLISH}, "subscribe": {"allow": (ALL, "_INBOX.>")}}
        return {
            "jetstream": "enabled",
            "users": [self._user("node"), {**self._user("operator"), "permissions": may}],
            "exports": [
                {"stream": ALL, "accounts": ["READER"]},
                {"service": DIRECT_GET, "response_type": "stream", "accounts": ["READER"]},
                {"service": STREAM_INFO, "accounts": ["READER"]},
            ],
        }

    def _reader_account(self) -> dict[str, object]:
        may = {"publish": {"allow": READER_MAY_PUBLISH}, "subscribe": {"allow": (ALL, "_INBOX.>")}}
        return {
            "users": [{**self._user("reader"), "permissions": may}],
            "imports": [
                {"stream": {"account": "NODE", "subject": ALL}},
                {"service": {"account": "NODE", "subject": DIRECT_GET}},
                {"service": {"account": "NODE", "subject": STREAM_INFO}, "to": READER_INFO},
            ],
        }

    def _worker_account(self) -> dict[str, object]:
        may = {"publish": {"allow": WORKER_MAY_PUBLISH}, "subscribe": {"allow": ">", "deny": "_INBOX.>"}}
        return {"users": [{**self._user("worker"), "permissions": may}, self._user("recruiter")]}

    def _user(self, name: str) -> dict[str, object]:
        return {"user": name, "password": self.passwords[name]}
