"""libp2p's mDNS record, with the name of the mesh beside it. Pure.

https://github.com/libp2p/specs/blob/master/discovery/mdns.md: a TXT record of strings ``dnsaddr=<multiaddr>``, each
multiaddr ending in ``/p2p/<PeerId>``. Strings of another kind are ignored by other implementations, and so by those
is ours, ``mesh=<name>``, which keeps the nodes of different meshes on one network apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.identity import public_key_of

SERVICE = "_p2p._udp.local."
MAX_ADDRESSES = 16
_MAX_STRING_BYTES = 255
_ADDRESS = b"dnsaddr="
_MESH = b"mesh="


@dataclass(frozen=True)
class Announcement:
    """Who is where, and in which mesh (empty: it does not say, as every libp2p node that is not ours)."""

    peer: str
    mesh: str
    addresses: tuple[str, ...]


def encode_text(mesh: str, addresses: Sequence[str]) -> bytes:
    """The TXT record. Addresses that do not fit into one of its strings, and all after the 16th, are left out."""
    strings = [_ADDRESS + address.encode() for address in addresses]
    strings = [one for one in strings if len(one) <= _MAX_STRING_BYTES][:MAX_ADDRESSES]
    return b"".join(bytes([len(one)]) + one for one in (*strings, _MESH + mesh.encode()))


def decode_text(text: bytes) -> Announcement | None:
    """What a TXT record announces; None when it names no peer, more than one, or something that is no PeerId."""
    strings = _strings(text)
    addresses = [_text(one.removeprefix(_ADDRESS)) for one in strings if one.startswith(_ADDRESS)]
    meshes = [_text(one.removeprefix(_MESH)) for one in strings if one.startswith(_MESH)]
    peers = {address.rpartition("/p2p/")[2] for address in addresses}
    if len(peers) != 1 or not all(address.startswith("/") for address in addresses):
        return None
    peer = peers.pop()
    try:
        public_key_of(peer)
    except ValueError:
        return None
    return Announcement(peer, meshes[0] if meshes else "", tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES])


def _strings(text: bytes) -> list[bytes]:
    found, start = [], 0
    while start < len(text):
        end = start + 1 + text[start]
        found.append(text[start + 1 : end])
        start = end
    return found


def _text(raw: bytes) -> str:
    return raw.decode("ascii", errors="replace")
