"""What a Kademlia node remembers: whom it knows, by distance, and who said that it provides what. Pure.

P. Maymounkov, D. Mazières: "Kademlia: A Peer-to-Peer Information System Based on the XOR Metric", 2002, with the
parameters of https://github.com/libp2p/specs/blob/master/kad-dht/README.md. Keys and PeerIds are compared by SHA-256.
"""

from collections.abc import Iterable
from hashlib import sha256

import base58

K = 20
# A record is believed for so long, and told anew in a third of that.
RECORD_TTL_S = 1800.0
MAX_KEYS = 1024
MAX_PROVIDERS_PER_KEY = 32
MAX_KEYS_PER_PROVIDER = 128
_SWEEP_EVERY_S = 1.0
_BITS = 256


def key_of(name: str) -> bytes:
    """The DHT's key for a name: its SHA-256 as a multihash."""
    return b"\x12\x20" + sha256(name.encode()).digest()


def place_of_key(key: bytes) -> int:
    """Where a key is in the space of distances."""
    return int.from_bytes(sha256(key).digest(), "big")


def place_of(peer: str) -> int:
    """Where a peer is. Raises ValueError for what is no PeerId."""
    return place_of_key(base58.b58decode(peer))


class Table:
    """Peers that serve the DHT and were connected, at most 20 for each length of the prefix shared with our own place.

    Who is in it stays, while it answers, before any newcomer: that is what makes an eclipse expensive.
    """

    def __init__(self, own: str) -> None:
        self._own_id = own
        self._own = place_of(own)
        self._buckets: dict[int, dict[str, tuple[int, tuple[str, ...]]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, peer: str, addresses: Iterable[str]) -> bool:
        """Remember a peer, or where it is now; returns whether it is new. A full bucket takes nobody."""
        if peer == self._own_id:
            return False
        place = place_of(peer)
        bucket = self._buckets.setdefault(_BITS - (place ^ self._own).bit_length(), {})
        new = peer not in bucket
        if new and len(bucket) >= K:
            return False
        bucket[peer] = (place, tuple(addresses))
        return new

    def remove(self, peer: str) -> None:
        """It does not answer."""
        for bucket in self._buckets.values():
            bucket.pop(peer, None)

    def closest(self, key: bytes, count: int = K) -> list[tuple[str, tuple[str, ...]]]:
        """The peers nearest to ``key``, with their addresses."""
        target = place_of_key(key)
        known = [
            (place ^ target, peer, at) for bucket in self._buckets.values() for peer, (place, at) in bucket.items()
        ]
        return [(peer, addresses) for _, peer, addresses in sorted(known)[:count]]


class Records:
    """Who provides what, as each provider itself said to us. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[str, tuple[float, tuple[str, ...]]]] = {}
        self._of_provider: dict[str, int] = {}
        self._swept_at = float("-inf")

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, provider: str, addresses: tuple[str, ...], now: float) -> bool:
        """Keep a record; False where there is no room for one more, old ones included only once they have expired."""
        providers = self._keys.get(key, {})
        if provider not in providers:
            self._expire(now)
            providers = self._keys.get(key, {})
            full = len(providers) >= MAX_PROVIDERS_PER_KEY or (not providers and len(self._keys) >= MAX_KEYS)
            if full or self._of_provider.get(provider, 0) >= MAX_KEYS_PER_PROVIDER:
                return False
            self._of_provider[provider] = self._of_provider.get(provider, 0) + 1
        self._keys.setdefault(key, {})[provider] = (now + RECORD_TTL_S, addresses)
        return True

    def of(self, key: bytes, now: float) -> dict[str, tuple[str, ...]]:
        """The providers of a key, and where they are."""
        return {peer: addresses for peer, (until, addresses) in self._keys.get(key, {}).items() if until > now}

    def _expire(self, now: float) -> None:
        if now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        for key, providers in list(self._keys.items()):
            for peer in [peer for peer, (until, _) in providers.items() if until <= now]:
                del providers[peer]
                self._of_provider[peer] -= 1
                if not self._of_provider[peer]:
                    del self._of_provider[peer]
            if not providers:
                del self._keys[key]
