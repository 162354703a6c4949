"""WebRTC-direct as a transport of py-libp2p."""

from collections.abc import Sequence
from dataclasses import replace

import trio
from libp2p.abc import IListener, IRawConnection, ITransport
from libp2p.custom_types import THandler
from multiaddr import Multiaddr

from mesh.p2p.addresses import WEBRTC, udp_target_of
from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.listener import DoorListener
from mesh.p2p.host.listening import Bound
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.udp import Udp
from mesh.p2p.host.webrtc.certificates import certhash, of_seed
from mesh.p2p.host.webrtc.dialling import Dial
from mesh.p2p.host.webrtc.listener import Door
from mesh.p2p.host.webrtc.local import Local


class DoorWebRtc(ITransport):
    """Its inbound side counts strangers with ``keeper``."""

    def __init__(
        self, keeper: Doorkeeper, seed: bytes, bound: Sequence[Bound], budget: ReceiveBudget, nursery: trio.Nursery
    ) -> None:
        self._keeper = keeper
        self._local = Local.of_seed(seed, budget, nursery)
        self._bound = bound

    def protocols(self) -> list[str]:
        """What an address of it has to have."""
        return [WEBRTC]

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Whether it is an address of WebRTC-direct with the certificate's digest."""
        target = udp_target_of(str(maddr))
        return target is not None and target.transport == WEBRTC and bool(target.certhash)

    def can_listen(self, maddr: Multiaddr) -> bool:
        """Whether it is an address of ours."""
        return self.can_dial(maddr)

    def create_listener(self, handler_function: THandler) -> IListener:
        """See `DoorListener`."""
        return DoorListener(self, self._bound, handler_function, self._local.nursery)

    async def serve(self, bound: Bound, handler: THandler) -> None:
        """Accept at ``bound`` until it is closed."""
        await Door(Udp(bound.raw), self._keeper, self._local).serve(handler)

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """A `WebRtcConnection`. Raises OpenConnectionError."""
        target = udp_target_of(str(maddr))
        assert target is not None
        return await Dial(target, self._local).run()  # type: ignore[return-value]


def announced(bound: Sequence[Bound], seed: bytes) -> list[Bound]:
    """``bound`` with the certificate's digest in the addresses of WebRTC-direct."""
    digest = certhash(of_seed(seed).fingerprint)
    return [
        replace(one, address=f"{one.address.partition('/certhash/')[0]}/certhash/{digest}")
        if one.transport == WEBRTC
        else one
        for one in bound
    ]
