"""The port to NATS: where the server is, who we are to it, and whether it is well.

Adapters: `mesh.events.broker_embedded` (a nats-server of our own) and `mesh.events.broker_external` (an existing
server or cluster).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mesh.errors import BrokerError

# worker: a service that is an expert; recruiter: the node itself among them.
Role = Literal["node", "operator", "reader", "worker", "recruiter"]


@dataclass(frozen=True)
class BrokerAddress:
    """All that a client needs to connect. ``url`` may name several servers of a cluster, separated by commas.

    ``credentials`` is the text of a NATS ``.creds`` or nkey seed file, where the server wants that.
    """

    url: str
    user: str = ""
    password: str = ""
    credentials: str = ""

    @property
    def urls(self) -> list[str]:
        """Each server's URL."""
        return [url.strip() for url in self.url.split(",") if url.strip()]

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``nats.connect``, beside the URLs."""
        if self.credentials:
            from nats.aio.client import RawCredentials

            return {"user_credentials": RawCredentials(self.credentials)}
        return {"user": self.user, "password": self.password} if self.user else {}

    def __repr__(self) -> str:
        return f"BrokerAddress({self.url!r}, user={self.user!r})"

    @classmethod
    def load(cls, path: Path) -> "BrokerAddress":
        """Read what `save` wrote. Raises FileNotFoundError when the node has never run, BrokerError when unreadable."""
        try:
            fields = json.loads(path.read_text())
            return cls(**{name: str(fields.get(name, "")) for name in cls.__dataclass_fields__})
        except FileNotFoundError:
            raise
        except (OSError, ValueError, AttributeError) as error:
            raise BrokerError(
                f"the credentials in {path} cannot be read: {error}",
                remedy="Delete the file and start the node again: it makes new ones.",
            ) from error

    def save(self, path: Path) -> None:
        """Write it, whole or not at all, readable by its owner only."""
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(json.dumps(asdict(self)) + "\n")
        draft.replace(path)


class Broker(Protocol):
    """A NATS server with JetStream that the node may use from `start` to `stop`."""

    @property
    def url(self) -> str:
        """Where clients connect; it stays the same from one start to the next."""
        ...

    def address(self, role: Role) -> BrokerAddress:
        """How a client in this role connects."""
        ...

    async def start(self) -> None:
        """Return once the server answers. Raises ListenError or BrokerError."""
        ...

    async def stop(self) -> None:
        """Let go; ends the server when it is ours."""
        ...

    def complaint(self) -> str:
        """The last error in the server's own log; empty when there is none, or the log is not ours."""
        ...

    async def health(self) -> None:
        """Return when JetStream answers. Raises BrokerError when it does not."""
        ...
