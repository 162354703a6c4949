"""Addresses of peers as people write them: libp2p multiaddrs that end in ``/p2p/<PeerId>``. Pure."""

from collections.abc import Iterable

import base58

from mesh.errors import ConfigError

MAX_ADDRESSES = 16
MAX_ADDRESS_CHARS = 256
_P2P = "/p2p/"
# A PeerId is a multihash of a public key: the key itself (identity; 36 bytes for Ed25519) or its SHA-256.
_MULTIHASHES = ((b"\x00\x24", 38), (b"\x12\x20", 34))


def is_peer_id(text: str) -> bool:
    """Whether ``text`` is a PeerId in base58btc: ``12D3Koo…`` or ``Qm…``."""
    if not 40 <= len(text) <= 60:
        return False
    try:
        raw = base58.b58decode(text)
    except ValueError:
        return False
    return any(raw.startswith(prefix) and len(raw) == size for prefix, size in _MULTIHASHES)


def static_peers(multiaddrs: Iterable[str], own: str) -> dict[str, tuple[str, ...]]:
    """The configured peers and their addresses; this node itself is left out.

    Raises ConfigError that names the entry.
    """
    peers: dict[str, tuple[str, ...]] = {}
    for multiaddr in multiaddrs:
        transport, found, peer = multiaddr.rpartition(_P2P)
        if not found or not is_peer_id(peer):
            raise ConfigError(
                f"overlay.peers has {multiaddr!r}, which does not end in /p2p/<PeerId>",
                remedy="Write it as the other node prints it: /ip4/192.0.2.7/tcp/4701/p2p/12D3Koo…",
            )
        if not _is_multiaddr(transport) or len(multiaddr) > MAX_ADDRESS_CHARS:
            raise ConfigError(
                f"overlay.peers has {multiaddr!r}, whose part before /p2p/ is no multiaddr",
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
