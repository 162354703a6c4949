"""How events of older versions are read: each upcaster lifts a body by one version, and they are chained.

An upcaster maps the JSON object of version n to that of version n + 1. It never looks at anything else, so
that an old journal reads the same everywhere and for ever. Adding one: raise ``version`` on the fact, add the
function here, and add a journal of the old version to ``tests/golden``.
"""

from collections.abc import Callable, Mapping
from typing import Any

Body = dict[str, Any]


def _peer_connected_1(body: Body) -> Body:
    """v1 knew only the multiaddr; v2 names the transport, which was always the last protocol before /p2p."""
    protocols = [part for part in body["address"].split("/p2p/")[0].split("/") if part and not part[0].isdigit()]
    return {**body, "transport": protocols[-1] if protocols else ""}


UPCASTERS: Mapping[tuple[str, int], Callable[[Body], Body]] = {
    ("peer.connected", 1): _peer_connected_1,
}


def upcast(fact_type: str, version: int, target: int, body: Body) -> Body:
    """Lift ``body`` from ``version`` to ``target``; raises LookupError when a step is missing."""
    for step in range(version, target):
        try:
            upcaster = UPCASTERS[fact_type, step]
        except KeyError:
            raise LookupError(f"no upcaster lifts {fact_type} from version {step} to {step + 1}") from None
        body = upcaster(body)
    return body
