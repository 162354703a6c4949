"""The port of the embedded server: chosen once, remembered, so that clients find it again after a restart."""

import errno
import socket
from pathlib import Path

from mesh.errors import ListenError


def choose_port(host: str, configured: int, memory: Path) -> int:
    """The configured port, else the one in ``memory`` if it is free, else a new one, remembered from now on.

    Raises ListenError when the configured port is taken or ``host`` cannot be listened on.
    """
    if configured:
        _probe(host, configured)
        return configured
    try:
        remembered = int(memory.read_text())
        if 0 < remembered <= 0xFFFF:
            return _probe(host, remembered)
    except (FileNotFoundError, ValueError):
        pass
    except ListenError as error:
        if error.__cause__ is None or getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
            raise
    port = _probe(host, 0)
    memory.write_text(f"{port}\n")
    return port


def _probe(host: str, port: int) -> int:
    """Bind and let go. SO_REUSEADDR, because connections of the last run may still be in TIME_WAIT."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(address)
            candidate.listen(1)
            return int(candidate.getsockname()[1])
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise ListenError(
            f"the broker cannot listen on {host}:{port}: {'the port is taken' if taken else error.strerror or error}",
            remedy="Set another `port` in [broker], or 0 for a free one."
            if taken
            else "Set `host` in [broker] to an address of this machine.",
        ) from error
