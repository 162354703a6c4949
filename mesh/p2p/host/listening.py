"""Sockets to listen at that are ours alone: py-libp2p's SO_REUSEPORT lets two nodes share a port in silence."""

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from mesh.errors import ListenError
from mesh.p2p.addresses import HOW_TO_LISTEN, OVER_UDP, Target, target_of, udp_target_of

_BACKLOG = 128


@dataclass(frozen=True)
class Bound:
    """A listening socket (``raw`` is the same, without trio), and the multiaddr it is bound to, with its real port."""

    asked: str
    address: str
    transport: str
    raw: socket.socket
    socket: trio.socket.SocketType


def bind(addresses: Sequence[str]) -> list[Bound]:
    """Bind every address, or none. Raises ListenError that names the address and what to do."""
    bound: list[Bound] = []
    try:
        for address in addresses:
            bound.append(_bind_one(address))  # noqa: PERF401 - what was bound is closed when one fails
    except ListenError:
        for other in bound:
            other.socket.close()
        raise
    return bound


def _bind_one(address: str) -> Bound:
    family, target = _parse(address)
    stream = target.transport not in OVER_UDP
    sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((target.host, target.port))
        if stream:
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _listen_error(address, target.port, error) from error
    protocol = "tcp" if stream else "udp"
    real = address.replace(f"/{protocol}/{target.port}", f"/{protocol}/{sock.getsockname()[1]}", 1)
    return Bound(address, real, target.transport, sock, trio.socket.from_stdlib_socket(sock))


def _parse(address: str) -> tuple[socket.AddressFamily, Target]:
    families = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
    target = target_of(address) or udp_target_of(address)
    if target is None or target.kind not in families:
        raise ListenError(
            f"[overlay] listen: {address!r} is not an address that can be listened on",
            remedy=HOW_TO_LISTEN,
        )
    return families[target.kind], target


def _listen_error(address: str, port: int, error: OSError) -> ListenError:
    remedies = {
        errno.EADDRINUSE: f"Stop what uses port {port} (another node?), or set another port in [overlay] listen.",
        errno.EADDRNOTAVAIL: "Use an address of this machine in [overlay] listen, or 0.0.0.0 for all of them.",
        errno.EACCES: "Use a port above 1023 in [overlay] listen.",
    }
    return ListenError(
        f"cannot listen on {address}: {os.strerror(error.errno or 0)}",
        remedy=remedies.get(error.errno or 0, "Correct [overlay] listen."),
    )
