"""Addresses of peers as people write them: libp2p multiaddrs that end in ``/p2p/<PeerId>``. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import base58

from mesh.errors import ConfigError

MAX_ADDRESSES = 16
MAX_ADDRESS_CHARS = 256
_P2P = "/p2p/"
# A PeerId is a multihash of a public key: the key itself (identity; 36 bytes for Ed25519) or its SHA-256.
_MULTIHASHES = ((b"\x00\x24", 38), (b"\x12\x20", 34))

_HOSTS = ("ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr")
QUIC = "quic-v1"
WEBRTC = "webrtc-direct"
# Their ports are of UDP, and the kernel knows nothing of their connections.
OVER_UDP = (QUIC, WEBRTC)
HOW_TO_LISTEN = (
    "Write it as /ip4/<address>/tcp/<port> or /ip6/<address>/tcp/<port>, with /ws or /tls/ws after it for WebSocket, "
    "or with udp for tcp and /quic-v1 or /webrtc-direct after it; port 0 picks a free one."
)
# docs/overlay.md has the reasons.
_NOT_SPOKEN = {"quic": "QUIC of before RFC 9000", "webtransport": "WebTransport"}
_NOT_PRIVATE = {QUIC: "QUIC", WEBRTC: "WebRTC"}


@dataclass(frozen=True)
class Target:
    """An address taken apart: ``transport`` is tcp, ws, wss, quic-v1 or webrtc-direct.

    ``server_name`` is what TLS asks for where that is said; ``certhash`` the digest of WebRTC's certificate.
    """

    kind: str
    host: str
    port: int
    transport: str
    server_name: str = ""
    certhash: str = ""


def target_of(multiaddr: str) -> Target | None:
    """What a multiaddr of TCP or WebSocket says; a ``/p2p/<PeerId>`` at its end is left out. None for any other."""
    if (parts := _parts(multiaddr, "tcp")) is None:
        return None
    kind, host, _, port, *over = parts
    match over:
        case []:
            return Target(kind, host, int(port), "tcp")
        case ["ws"]:
            return Target(kind, host, int(port), "ws")
        case ["wss"] | ["tls", "ws"]:
            return Target(kind, host, int(port), "wss")
        case ["tls", "sni", name, "ws"] if name:
            return Target(kind, host, int(port), "wss", name)
    return None


def udp_target_of(multiaddr: str) -> Target | None:
    """What a multiaddr of QUIC or WebRTC-direct says, as `target_of`."""
    match _parts(multiaddr, "udp"):
        case [kind, host, _, port, "quic-v1"]:
            return Target(kind, host, int(port), QUIC)
        case [kind, host, _, port, "webrtc-direct"]:
            return Target(kind, host, int(port), WEBRTC)
        case [kind, host, _, port, "webrtc-direct", "certhash", digest] if digest:
            return Target(kind, host, int(port), WEBRTC, certhash=digest)
    return None


def _parts(multiaddr: str, protocol: str) -> list[str] | None:
    """Kind, host, protocol, port and the rest, where they can be that."""
    first, *parts = multiaddr.partition(_P2P)[0].split("/")
    if first or len(parts) < 4 or parts[0] not in _HOSTS or parts[2] != protocol or not parts[1]:
        return None
    port = parts[3]
    return parts if port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535 else None


def check_listen(multiaddrs: Iterable[str], *, private: bool, certificate: bool) -> None:
    """Whether a node may listen there, as far as the text tells.

    ``private``: it has a network key; ``certificate``: one for secure WebSocket. Raises ConfigError.
    """
    ports: dict[tuple[str, int, bool], str] = {}
    for multiaddr in multiaddrs:
        _refuse_what_is_not_spoken(multiaddr, private=private)
        target = target_of(multiaddr) or udp_target_of(multiaddr)
        if target is None or not _is_ip(target):
            raise ConfigError(
                f"[overlay] listen: {multiaddr!r} is not an address that can be listened on",
                remedy=HOW_TO_LISTEN,
            )
        if target.transport == "wss" and not certificate:
            raise ConfigError(
                f"[overlay] listen has {multiaddr!r}, and secure WebSocket needs a certificate",
                remedy="Name its PEM files in [overlay] wss_certificate and wss_key, or listen on /ws.",
            )
        other = ports.setdefault((target.host, target.port, target.transport in OVER_UDP), multiaddr)
        if target.port and other != multiaddr:
            raise ConfigError(
                f"[overlay] listen has {other!r} and {multiaddr!r} on one port",
                remedy="Each transport needs a port of its own: /ip4/0.0.0.0/tcp/4701 and /ip4/0.0.0.0/tcp/4702/ws.",
            )


def _is_ip(target: Target) -> bool:
    """An address of a machine, in digits, of the kind that it says it is."""
    try:
        return f"ip{ip_address(target.host).version}" == target.kind
    except ValueError:
        return False


def _refuse_what_is_not_spoken(multiaddr: str, *, private: bool) -> None:
    parts = multiaddr.split("/")
    names = [_NOT_SPOKEN[part] for part in parts if part in _NOT_SPOKEN]
    why = "py-libp2p's would let strangers past every limit on connections, handshakes and memory"
    if private and not names and (names := [_NOT_PRIVATE[part] for part in parts if part in _NOT_PRIVATE]):
        why = "a network key protects TCP and WebSocket alone"
    if not names:
        return
    raise ConfigError(
        f"[overlay] listen has {multiaddr!r}, and this node does not speak {names[-1]}: {why}",
        remedy="Listen on TCP (/ip4/0.0.0.0/tcp/4701), WebSocket (…/tcp/4702/ws) or both."
        if private
        else "Listen on TCP (/ip4/0.0.0.0/tcp/4701), WebSocket (…/tcp/4702/ws), QUIC (…/udp/4701/quic-v1) or several.",
    )


def is_peer_id(text: str) -> bool:
    """Whether ``text`` is a PeerId in base58btc: ``12D3Koo…`` or ``Qm…``."""
    if not 40 <= len(text) <= 60:
        return False
    try:
        raw = base58.b58decode(text)
    except ValueError:
        return False
    return any(raw.startswith(prefix) and len(raw) == size for prefix, size in _MULTIHASHES)


def relays(multiaddrs: Iterable[str]) -> list[str]:
    """The configured relays. Raises ConfigError for one that is behind a relay itself, or no multiaddr."""
    named = list(multiaddrs)
    for multiaddr in named:
        if "/p2p-circuit" in multiaddr:
            raise ConfigError(
                f"overlay.relays has {multiaddr!r}, which is reached through a relay itself",
                remedy="Name a relay that everybody can dial: /ip4/192.0.2.7/tcp/4701/p2p/12D3Koo…",
            )
    return named


def static_peers(multiaddrs: Iterable[str], own: str, setting: str = "peers") -> dict[str, tuple[str, ...]]:
    """The peers configured as ``overlay.<setting>`` and their addresses; this node itself is left out.

    Raises ConfigError that names the entry.
    """
    peers: dict[str, tuple[str, ...]] = {}
    for multiaddr in multiaddrs:
        transport, found, peer = multiaddr.rpartition(_P2P)
        if not found or not is_peer_id(peer):
            wrong = f"where {peer!r} is no PeerId" if found else "which does not end in /p2p/<PeerId>"
            raise ConfigError(
                f"overlay.{setting} has {multiaddr!r}, {wrong}",
                remedy="Write it as the other node prints it: /ip4/192.0.2.7/tcp/4701/p2p/12D3Koo…",
            )
        if not _is_multiaddr(transport) or len(multiaddr) > MAX_ADDRESS_CHARS:
            raise ConfigError(
                f"overlay.{setting} has {multiaddr!r}, whose part before /p2p/ is no multiaddr",
                remedy="It is pairs of protocol and value: /ip4/192.0.2.7/tcp/4701 or /dns/host.example/tcp/4701",
            )
        if peer != own:
            peers[peer] = merged(peers.get(peer, ()), [multiaddr])
    return peers


def merged(known: Iterable[str], newer: Iterable[str]) -> tuple[str, ...]:
    """Both, the newer first, without repetition, at most 16 of them; empty and overlong ones are left out."""
    usable = (address for address in (*newer, *known) if 0 < len(address) <= MAX_ADDRESS_CHARS)
    return tuple(dict.fromkeys(usable))[:MAX_ADDRESSES]


def _is_multiaddr(text: str) -> bool:
    """Roughly: ``/name/value`` pairs without empty parts; the overlay is the judge of what they mean."""
    first, *parts = text.split("/")
    return not first and len(parts) >= 2 and all(parts)
