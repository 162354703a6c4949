"""Mapped ports are renewed where peers have been told they are."""

from contextlib import aclosing
from typing import Any

import pytest
import trio
import trio.testing

from mesh.p2p.host import upnp
from mesh.p2p.host.upnp import Gateway, keep_mapped

OUTSIDE = "11.0.0.1"


class Igd:
    """What a router's mappings are to who asks for them: an outer port belongs to one machine."""

    def __init__(self, **machines: int) -> None:
        self.passed_on = {port: machine for machine, port in machines.items()}

    def addportmapping(self, outer: int, _protocol: str, ours: str, *_rest: Any) -> bool:
        if self.passed_on.setdefault(outer, ours) != ours:
            raise Exception("ConflictInMappingEntry")  # as miniupnpc does
        return True

    def externalipaddress(self) -> str:
        return OUTSIDE


def test_a_port_is_renewed_where_it_was_also_when_its_own_becomes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    igd = Igd(another=4701)
    monkeypatch.setattr(upnp, "find_gateway", lambda: Gateway(igd, "us", "192.168.1.1"))

    async def renew() -> list[str]:
        seen = []
        async with aclosing(keep_mapped(["/ip4/0.0.0.0/tcp/4701", "/ip4/0.0.0.0/tcp/4701/ws"])) as mapped:
            async for address, _gateway in mapped:
                seen.append(address)
                igd.passed_on.pop(4701, None)
                if len(seen) == 4:
                    break
        return seen

    seen = trio.run(renew, clock=trio.testing.MockClock(autojump_threshold=0))
    assert seen == [f"/ip4/{OUTSIDE}/tcp/4702", f"/ip4/{OUTSIDE}/tcp/4702/ws"] * 2
    assert igd.passed_on == {4702: "us"}
