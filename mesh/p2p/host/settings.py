"""What the node tells the overlay process before it starts: in a pipe, never in its arguments or environment."""

import fcntl
import os

import msgspec

from mesh.p2p.access import Access
from mesh.p2p.host.limits import Limits
from mesh.p2p.host.nat import NatSettings

_PIPE_BYTES = 60_000  # a pipe holds 64 KiB without anybody reading it, and can be made to hold more
MAX_BYTES = 1_000_000  # of which Linux lets everybody have this much


class WebSocketTls(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files of secure WebSocket: ours, and whom to trust when dialling (empty: whom the system trusts)."""

    certificate: str = ""
    key: str = ""
    trust: str = ""


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Identity, addresses and limits. ``token`` proves to the node that a local connection is ours.

    ``security``: noise and tls, the preferred first. ``network_key``: of the private network; empty for none.
    """

    seed: bytes
    token: str
    socket: str
    listen: tuple[str, ...]
    agent: str
    protocols: tuple[str, ...]
    topics: tuple[str, ...]
    dht: str = ""
    provided: tuple[str, ...] = ()
    limits: Limits
    nat: NatSettings = NatSettings()
    access: Access = Access()
    security: tuple[str, ...] = ("noise",)
    network_key: bytes = b""
    wss: WebSocketTls = WebSocketTls()


def hand_over(settings: HostSettings, descriptor: int) -> None:
    """Leave the settings in a new pipe whose reading end becomes ``descriptor``."""
    payload = msgspec.json.encode(settings)
    if len(payload) > MAX_BYTES:
        raise ValueError(f"overlay settings of {len(payload)} bytes are over the limit of {MAX_BYTES}")
    reading, writing = os.pipe()
    try:
        if len(payload) > _PIPE_BYTES:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(writing, payload)
        os.dup2(reading, descriptor, inheritable=False)
    finally:
        os.close(writing)
        os.close(reading)


def take_over(descriptor: int) -> HostSettings:
    """Read, in the overlay process, what `hand_over` left, and close the pipe."""
    with os.fdopen(descriptor, "rb") as pipe:
        return msgspec.json.decode(pipe.read(), type=HostSettings)
