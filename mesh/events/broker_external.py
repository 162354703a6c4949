"""An existing NATS server or cluster, by URL."""

import json
from pathlib import Path

from mesh.config import BrokerConfig
from mesh.errors import ConfigError
from mesh.events.broker import BrokerAddress, Role
from mesh.events.broker_probe import probe
from mesh.events.readers import credentials_file
from mesh.home import Home

OUR_ROLES: tuple[Role, ...] = ("node", "operator")
FOREIGN_ROLES: tuple[Role, ...] = ("reader", "worker", "recruiter")


class ExternalBroker:
    """Whatever listens at ``config.url``; it is neither started nor stopped here. See `mesh.events.broker.Broker`.

    The node and its operator connect with the same credentials, kept in ``home`` for the node's other processes;
    accounts for readers and for workers are in the hands of whoever runs that server. ``recruiter_credentials`` is a
    file for the node's part in the latter; empty: it finds and asks workers with its own.
    """

    def __init__(self, config: BrokerConfig, home: Home | None = None, *, recruiter_credentials: str = "") -> None:
        self._address = external_address(config)
        self._recruiter = self._address
        if recruiter_credentials:
            self._recruiter = external_address(config, recruiter_credentials, setting="workers.credentials")
        self._home = home

    @property
    def url(self) -> str:
        """See `Broker.url`."""
        return self._address.url

    def address(self, role: Role) -> BrokerAddress:
        """See `Broker.address`."""
        return self._recruiter if role == "recruiter" else self._address

    async def start(self) -> None:
        """See `Broker.start`."""
        await self.health()
        if self._home is not None:
            self._home.create()
            for role in FOREIGN_ROLES:
                credentials_file(self._home, role).unlink(missing_ok=True)
            for role in OUR_ROLES:
                self._address.save(credentials_file(self._home, role))

    async def stop(self) -> None:
        """See `Broker.stop`."""

    def complaint(self) -> str:
        """See `Broker.complaint`: an external server's log is out of reach."""
        return ""

    async def health(self) -> None:
        """See `Broker.health`."""
        await probe(self._address)


def external_address(
    config: BrokerConfig, credentials: str = "", *, setting: str = "broker.credentials"
) -> BrokerAddress:
    """``config.url`` with its credentials file: a ``.creds`` or nkey seed file, or user and password as JSON.

    ``credentials`` is another file, which ``setting`` names. Raises ConfigError when it cannot be read.
    """
    credentials = credentials or config.credentials
    if not credentials:
        return BrokerAddress(config.url)
    path = Path(credentials).expanduser()
    try:
        text = path.read_text()
        if not text.lstrip().startswith("{"):
            return BrokerAddress(config.url, credentials=text)
        fields = json.loads(text)
        return BrokerAddress(config.url, str(fields["user"]), str(fields["password"]))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{setting} = {credentials!r} cannot be used: {error!r}",
            remedy="Name a .creds file, an nkey seed file, or a JSON file with user and password.",
        ) from error
