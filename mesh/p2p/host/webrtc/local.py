"""This node's side of every connection."""

from dataclasses import dataclass

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair

from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.webrtc.certificates import Certificate, of_seed


@dataclass(frozen=True)
class Local:
    """Who we are, what all peers together may make us hold, and where connections that we dialled live."""

    identity: KeyPair
    certificate: Certificate
    budget: ReceiveBudget
    nursery: trio.Nursery

    @classmethod
    def of_seed(cls, seed: bytes, budget: ReceiveBudget, nursery: trio.Nursery) -> "Local":
        """Of the node with the identity of ``seed``."""
        return cls(create_new_key_pair(seed), of_seed(seed), budget, nursery)
