"""What goes over ``mesh.api.*``: JSON, validated on both ends.

``mesh.api.ask`` answers with messages whose header ``Mesh-Kind`` is ``chunk`` (a piece of text, only when
``stream`` was set), then one ``result`` (JSON) or an error in the manner of the NATS service API
(``Nats-Service-Error``, ``Nats-Service-Error-Code``; the JSON body has ``kind``, ``message`` and ``request``).
With ``stream`` or ``watch`` there are messages of the kind ``alive`` too; each of these messages, and each ``chunk``,
has a reply subject ``mesh.api.taken.*`` on which the caller says that it was taken.
"""

from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

SERVICE = "mesh"
SERVICE_VERSION = "1.0.0"
KIND = "Mesh-Kind"
ASK = "mesh.api.ask"
CANCEL = "mesh.api.cancel"
TAKEN = "mesh.api.taken"
STATUS = "mesh.api.status"
ACKNOWLEDGE = "mesh.api.alerts.acknowledge"

ACCESS = "mesh.api.peers.access"
FORGET = "mesh.api.forget"

CallId = Annotated[str, Field(min_length=1, max_length=64)]


class Message(BaseModel):
    """Base of every message that a client sends; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AskMessage(Message):
    """``mesh.api.ask``. ``call`` is the client's own name for the call, to cancel it by.

    ``watch``: the request is taken back when nobody listens for the answer any more; ``stream`` does so too.
    ``window``: so many pieces may be on their way before the caller has taken them; 0: there is no limit.
    """

    call: CallId
    query: dict[str, JsonValue]
    stream: bool = False
    watch: bool = False
    window: int = Field(default=0, ge=0, le=1024)


class CancelMessage(Message):
    """``mesh.api.cancel``"""

    call: CallId


class AcknowledgeMessage(Message):
    """``mesh.api.alerts.acknowledge``"""

    alert: str = Field(min_length=1, max_length=256)
    actor: str = Field(min_length=1, max_length=128)
    note: str = Field(default="", max_length=2000)


class AccessMessage(Message):
    """``mesh.api.peers.access``: ``party`` is a PeerId, an address or a network."""

    action: Literal["block", "unblock", "allow", "disallow"]
    party: str = Field(min_length=1, max_length=128)
    actor: str = Field(min_length=1, max_length=128)
    reason: str = Field(default="", max_length=2000)


class AccessChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Its answer. ``party`` is canonical; ``changed`` is false where the rule was there already.

    ``closed`` counts the peers that were disconnected for it.
    """

    party: str
    changed: bool
    closed: int


class ForgetMessage(Message):
    """``mesh.api.forget``: these requests, or all from before ``older_than_s`` seconds ago and of ``caller``.

    At least one of the three is needed; ``requests`` goes without the others.
    """

    requests: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=1000)
    older_than_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    caller: str = Field(default="", max_length=128)
    actor: str = Field(min_length=1, max_length=128)

    @model_validator(mode="after")
    def _says_what(self) -> "ForgetMessage":
        chosen = self.older_than_s is not None or self.caller
        if bool(self.requests) == bool(chosen):
            raise ValueError("name the requests, or else their age or caller")
        return self


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``mesh.api.status``: what a running node says of itself."""

    peer_id: str
    name: str
    mesh: str
    release: str
    pid: int
    processes: dict[str, int]
    uptime_s: float
    epoch: int
    addresses: tuple[str, ...]
    connected: tuple[str, ...]
    experts: tuple[str, ...]
    position: int
    stored_position: int
    requests_in_flight: int
    serving: int
    broker_url: str
    gateway_url: str = ""
    notices: tuple[str, ...] = ()
