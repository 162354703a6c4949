"""What a QUIC socket keeps of connections: nothing, once they are over, however they ended or never began."""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mesh.p2p.host.admission import Admission, Refusal
from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.limits import Limits
from mesh.p2p.host.listening import Bound, bind
from mesh.p2p.host.muxed import MuxedConnection
from mesh.p2p.host.quic.endpoint import QuicEndpoint
from mesh.p2p.host.quic.resets import Resets
from mesh.p2p.host.receiving import ReceiveBudget
from tests.kit.quic_pair import CLIENT, IDENTITIES, SERVER, peer_of

LIMITS = Limits(
    max_connections=10,
    max_inbound=4,
    max_streams_per_peer=16,
    handshake_s=30,
    silent_s=30,
    inbound_per_address_per_s=1000,
)


class FallsSilent:
    """A socket whose process vanishes once it has said ``words`` datagrams."""

    def __init__(self, raw: socket.socket, words: int) -> None:
        self._words = words
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def sendto(self, data: bytes, remote: Any) -> None:
        self._words -= 1
        if self._words >= 0:
            self._raw.sendto(data, remote)


class Node:
    """An endpoint, and who came to it."""

    def __init__(self, bound: Bound, who: Any, limits: Limits = LIMITS) -> None:
        self.address = bound.raw.getsockname()
        self.admission = Admission(limits)
        self.refused: list[Refusal] = []
        self.unsettled: list[str] = []
        self.guests: list[MuxedConnection] = []
        self.keeper = Doorkeeper(
            self.admission,
            handshake_s=limits.handshake_s,
            outbound=lambda: 0,
            on_refused=lambda _address, refusal: self.refused.append(refusal),
            on_unsettled=lambda wire: self.unsettled.append(wire.end_reason),
        )
        self.budget = ReceiveBudget(1 << 30)
        resets = Resets(bytes(32), bound.address)
        self.endpoint = QuicEndpoint(bound, IDENTITIES[who], resets, self.keeper, self.budget)

    async def serve(self) -> None:
        await self.endpoint.serve(self._welcome)

    async def _welcome(self, muxed: Any) -> None:
        muxed.wire.settled = True
        self.keeper.settle(muxed.wire)
        self.guests.append(muxed)
        await muxed.event_shutting_down.wait()

    def is_empty(self) -> bool:
        books = (self.endpoint._by_id, self.endpoint._by_remote, self.budget._held, self.keeper._in_handshake)
        return not any(books) and self.admission.inbound == 0 and not self.admission._handshakes


@asynccontextmanager
async def two(limits: Limits = LIMITS) -> AsyncIterator[tuple[Node, Node, trio.Nursery]]:
    near, far = bind(["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/udp/0/quic-v1"])
    with trio.fail_after(60), near.socket, far.socket:
        async with trio.open_nursery() as nursery:
            nodes = Node(near, CLIENT), Node(far, SERVER, limits)
            for node in nodes:
                nursery.start_soon(node.serve)
            yield *nodes, nursery
            nursery.cancel_scope.cancel()


async def until_empty(*nodes: Node) -> None:
    while not all(node.is_empty() for node in nodes):
        await trio.sleep(0.005)


async def until_welcome(node: Node, guests: int = 1) -> None:
    while len(node.guests) < guests:
        await trio.sleep(0.005)


@pytest.mark.parametrize("who", ["who dialled", "who was dialled"])
def test_a_connection_that_is_closed(who: str) -> None:
    async def main() -> None:
        async with two() as (near, far, nursery):
            muxed = await near.endpoint.connect(far.address, nursery)
            assert muxed.peer_id == peer_of(2)
            await until_welcome(far)
            assert not near.is_empty()
            (muxed if who == "who dialled" else far.guests[0]).wire.abort("enough")
            await until_empty(near, far)

    trio.run(main)


def test_who_is_refused() -> None:
    async def main() -> None:
        async with two() as (near, far, nursery):
            for _ in range(LIMITS.max_inbound):
                await near.endpoint.connect(far.address, nursery)
            await until_welcome(far, LIMITS.max_inbound)
            known = len(far.endpoint._by_id)
            for _ in range(3):
                with pytest.raises(trio.BrokenResourceError):
                    await near.endpoint.connect(far.address, nursery)
            assert len(far.refused) >= 3  # who has not read its refusal yet comes again
            assert {one.rule for one in far.refused} == {"max_inbound"}
            assert len(far.endpoint._by_id) == known
            assert {id(one) for there in far.endpoint._by_remote.values() for one in there} == {
                id(one) for one in far.guests
            }
            for one in far.guests:
                one.wire.abort("enough")
            await until_empty(near, far)

    trio.run(main)


@pytest.mark.parametrize("waited_s", [0.0, 0.001, 0.003, 0.01])
def test_a_dial_that_is_given_up(waited_s: float) -> None:
    async def main() -> None:
        async with two() as (near, far, nursery):
            with trio.move_on_after(waited_s):
                muxed = await near.endpoint.connect(far.address, nursery)
                muxed.wire.abort("enough")
            await until_empty(near, far)

    trio.run(main)


def test_a_dial_that_nobody_answers() -> None:
    async def main() -> None:
        (hole,) = bind(["/ip4/127.0.0.1/udp/0/quic-v1"])
        async with two() as (near, _, nursery):
            with trio.move_on_after(0.1) as waited, hole.socket:
                await near.endpoint.connect(hole.raw.getsockname(), nursery)
            assert waited.cancelled_caught
            await until_empty(near)

    trio.run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_dial_to_a_closed_port_fails_at_once() -> None:
    async def main() -> None:
        async with two() as (near, _, nursery):
            (closed,) = bind(["/ip4/127.0.0.1/udp/0/quic-v1"])
            nobody = closed.raw.getsockname()
            closed.socket.close()
            with pytest.raises(trio.BrokenResourceError, match="nobody listens there"), trio.fail_after(30):
                await near.endpoint.connect(nobody, nursery)
            await until_empty(near)

    trio.run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_peer_whose_port_is_closed_is_asked_and_then_gone() -> None:
    async def main() -> None:
        async with two() as (near, _, nursery):
            (there,) = bind(["/ip4/127.0.0.1/udp/0/quic-v1"])
            far = Node(there, SERVER)
            async with trio.open_nursery() as its_process:
                its_process.start_soon(far.serve)
                muxed = await near.endpoint.connect(far.address, nursery)
                far.endpoint._udp._raw = FallsSilent(far.endpoint._udp._raw, 0)  # type: ignore[assignment]
                its_process.cancel_scope.cancel()
            there.socket.close()
            await muxed.ask_for_life()
            with trio.fail_after(30):
                await muxed.event_shutting_down.wait()
            assert muxed.wire.end_reason == "closed by the peer"
            await until_empty(near)

    trio.run(main)


def test_a_handshake_that_is_abandoned() -> None:
    hurried = Limits(**{name: getattr(LIMITS, name) for name in LIMITS.__struct_fields__} | {"handshake_s": 0.2})

    async def main() -> None:
        async with two(hurried) as (near, far, nursery):
            near.endpoint._udp._raw = FallsSilent(near.endpoint._udp._raw, 2)  # type: ignore[assignment]
            async with trio.open_nursery() as dialling:
                dialling.start_soon(near.endpoint.connect, far.address, nursery)
                while not far.unsettled:
                    await trio.sleep(0.005)
                dialling.cancel_scope.cancel()
            await until_empty(near, far)
            assert far.unsettled == ["did not prove who it is in time"]

    trio.run(main)


def test_both_connections_of_two_that_dialled_each_other_are_known_to_be_lost() -> None:
    async def main() -> None:
        async with two() as (near, far, nursery), trio.open_nursery() as doomed:
            await near.endpoint.connect(far.address, nursery)
            await until_welcome(far)
            await far.endpoint.connect(near.address, doomed)
            await until_welcome(near)
            (there,) = near.endpoint._by_remote.values()
            assert len(there) == 2
            lost = list(there)
            far.endpoint._by_id.clear()  # as after a crash
            for one in lost:
                await one.ask_for_life()
            await until_empty(near)
            assert [one.wire.end_reason for one in lost] == ["the peer has lost the connection"] * 2
            doomed.cancel_scope.cancel()

    trio.run(main)


def test_another_machine_with_the_id_of_a_connection_is_not_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with two() as (near, far, nursery):
            await near.endpoint.connect(far.address, nursery)
            await until_welcome(far)
            heard: list[bytes] = []
            monkeypatch.setattr(far.guests[0], "receive", lambda data, _remote: heard.append(data))
            stranger = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
            with stranger:
                await stranger.bind(("127.0.0.2", 0))
                for one in list(far.endpoint._by_id):
                    await stranger.sendto(b"\x40" + one + bytes(50), far.address)
                await stranger.sendto(b"\x40" + bytes(50), far.address)
                await stranger.recv(100)  # the answer to the last: the others were taken by then
            assert not [data for data in heard if data.endswith(bytes(50))]
            far.guests[0].wire.abort("enough")
            await until_empty(near, far)

    trio.run(main)
