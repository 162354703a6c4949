"""Connecting to a peer: every address gets its chance, a dead one does not hold up the others."""

from collections.abc import Sequence
from contextlib import suppress

import trio
from libp2p.abc import IRawConnection
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from mesh.p2p.addresses import target_of
from mesh.p2p.host.connections import Connections
from mesh.p2p.host.swarm import DoorSwarm, wire_of
from mesh.p2p.overlay import DialFailed

# RFC 8305, section 5: the delay before the next address is tried beside the one before.
_STAGGER_S = 0.25
_MAX_ADDRESSES = 16
# What an address that answers gets for its handshake before the next has its turn, however many there are.
_SECURE_AT_LEAST_S = 1.0
# The fastest first; measured beside each other in benchmarks/overlay.py.
_PREFERENCE = ("tcp", "ws", "wss")


class Dialler:
    """Dials a peer once at a time."""

    def __init__(
        self, swarm: DoorSwarm, connections: Connections, *, max_connections: int, private: bool = False
    ) -> None:
        self._swarm = swarm
        self._connections = connections
        self._max_connections = max_connections
        self._hint = " (is it in our private network?)" if private else ""
        self._locks: dict[str, trio.Lock] = {}

    async def dial(self, peer: str, addresses: Sequence[str], timeout_s: float) -> None:
        """Return once connected. Raises DialFailed, which names what happened at each address."""
        failures: list[str] = []
        with trio.move_on_after(timeout_s) as deadline:
            lock = self._locks.setdefault(peer, trio.Lock())
            try:
                async with lock:
                    if self._connections.of(peer) is None:
                        await self._dial(peer, addresses, failures, timeout_s)
            finally:
                if not lock.statistics().tasks_waiting and not lock.locked():
                    self._locks.pop(peer, None)
        if self._connections.of(peer) is None:
            if deadline.cancelled_caught:
                failures.append(f"no answer within {timeout_s:g} s{self._hint}")
            raise DialFailed(
                f"no address of {peer} led to a connection: {'; '.join(failures) or 'it hung up'}",
                remedy="Check that the peer runs and that its addresses can be reached from here.",
            )

    async def _dial(self, peer: str, addresses: Sequence[str], failures: list[str], timeout_s: float) -> None:
        total = sum(1 for _ in self._connections) + 1
        if total > self._max_connections:
            failures.append(f"{total} connections are over [overlay] max_connections {self._max_connections}")
            return
        peer_id, targets = _targets(peer, addresses, failures)
        patience_s = max(timeout_s / max(len(targets), 1), _SECURE_AT_LEAST_S)
        send, receive = trio.open_memory_channel[tuple[str, IRawConnection | Exception]](_MAX_ADDRESSES)
        try:
            async with trio.open_nursery() as nursery:
                for order, target in enumerate(targets):
                    nursery.start_soon(self._reach, target, order * _STAGGER_S, send)
                for _ in targets:
                    address, reached = await receive.receive()
                    with trio.move_on_after(patience_s) as patience:
                        if await self._secure(peer_id, address, reached, failures):
                            break
                    if patience.cancelled_caught:
                        failures.append(f"{address}: no answer within {patience_s:g} s{self._hint}")
                nursery.cancel_scope.cancel()
        finally:
            await _close_unused(receive)

    async def _reach(
        self, target: Multiaddr, delay_s: float, send: trio.MemorySendChannel[tuple[str, IRawConnection | Exception]]
    ) -> None:
        await trio.sleep(delay_s)
        transport = self._swarm.transport_manager.transport_for_dialing(target)
        if transport is None:
            send.send_nowait((str(target), OpenConnectionError("no transport for this kind of address")))
            return
        try:
            send.send_nowait((str(target), await transport.dial(target)))
        except (OpenConnectionError, OSError) as error:
            send.send_nowait((str(target), error))

    async def _secure(
        self, peer_id: ID, address: str, reached: IRawConnection | Exception, failures: list[str]
    ) -> bool:
        if isinstance(reached, Exception):
            failures.append(f"{address}: {_root(reached)}")
            return False
        try:
            await self._swarm.secure_and_add(reached, peer_id)
        except (BaseLibp2pError, EOFError, OSError, ValueError) as error:
            failures.append(f"{address}: {wire_of(reached).failure or _root(error)}")
            return False
        return self._connections.of(str(peer_id)) is not None


def _targets(peer: str, addresses: Sequence[str], failures: list[str]) -> tuple[ID, list[Multiaddr]]:
    try:
        peer_id = ID.from_base58(peer)
    except ValueError as error:
        raise DialFailed(f"{peer!r} is not a PeerId: {error}", remedy="Write it as 12D3Koo….") from error
    targets = []
    for address in addresses[:_MAX_ADDRESSES]:
        plain, _, named = address.partition("/p2p/")
        if named and named != peer:
            failures.append(f"{address}: is the address of another peer")
            continue
        try:
            targets.append(Multiaddr(plain))
        except (MultiaddrError, ValueError) as error:
            failures.append(f"{address}: not a multiaddr ({error})")
    return peer_id, sorted(targets, key=_rank)


def _rank(target: Multiaddr) -> int:
    taken_apart = target_of(str(target))
    return _PREFERENCE.index(taken_apart.transport) if taken_apart is not None else len(_PREFERENCE)


async def _close_unused(receive: trio.MemoryReceiveChannel[tuple[str, IRawConnection | Exception]]) -> None:
    with suppress(trio.WouldBlock):
        while True:
            _, reached = receive.receive_nowait()
            if not isinstance(reached, Exception):
                await reached.close()


def _root(error: BaseException) -> str:
    """The innermost cause says most."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
