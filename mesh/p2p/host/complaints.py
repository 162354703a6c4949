"""What was refused and who misbehaved, told to the node without letting anybody fill its journal."""

from collections.abc import Callable

import trio

from mesh.p2p.host.admission import Refusal, site_of
from mesh.p2p.host.damping import Damper
from mesh.p2p.host.wires import Wire
from mesh.p2p.overlay import Misbehaved, OverlayFact, Refused

_MAX_DETAIL_CHARACTERS = 200


class Complaints:
    """Reports, damped by rule and by the peer or the address it came from."""

    def __init__(self, report: Callable[[OverlayFact], None], *, handshake_s: float) -> None:
        self._report = report
        self._handshake_s = handshake_s
        self._damper = Damper()

    def refused(self, address: str, refusal: Refusal, peer: str = "") -> None:
        """A rule turned somebody away."""
        more = self._more(refusal.rule, peer, address)
        if more is not None:
            self._report(Refused(peer, address, refusal.rule, refusal.limit, refusal.value + more))

    def misbehaved(self, address: str, rule: str, detail: str, peer: str = "") -> None:
        """Somebody broke a protocol."""
        more = self._more(rule, peer, address)
        if more is not None:
            self._report(Misbehaved(peer, address, rule, detail[:_MAX_DETAIL_CHARACTERS] + more))

    def unsettled(self, wire: Wire) -> None:
        """A handshake that came to nothing: too slow, or wrong."""
        took = trio.current_time() - wire.opened_at
        failure = wire.failure
        if wire.network_key_differs:
            self.refused(wire.address, Refusal("network_key", "the key of our network", wire.network_key_differs))
        elif isinstance(failure, trio.TooSlowError) or (failure and isinstance(failure.__context__, trio.TooSlowError)):
            self.refused(wire.address, Refusal("handshake_deadline", f"{self._handshake_s:g} s", f"{took:.1f} s"))
        else:
            self.misbehaved(wire.address, "handshake", root_cause(failure) or wire.end_reason)

    def _more(self, rule: str, peer: str, address: str) -> str | None:
        source = peer or site_of(_ip_of(address))
        withheld = self._damper.admit(f"{rule} {source}", trio.current_time())
        if withheld is None:
            return None
        return f" ({withheld} more like it)" if withheld else ""


def root_cause(error: BaseException | None) -> str:
    """The innermost cause of an error, as text; empty for none."""
    if error is None:
        return ""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {error}"


def _ip_of(address: str) -> str:
    parts = address.split("/")
    return parts[2] if len(parts) > 2 else ""
