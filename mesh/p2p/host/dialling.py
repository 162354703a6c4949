"""Connecting to a peer: every address gets its chance, a dead one does not hold up the others."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import trio
from libp2p.abc import IRawConnection
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from mesh.p2p.access import Access, Gate
from mesh.p2p.addresses import OVER_UDP, WEBRTC, target_of, udp_target_of
from mesh.p2p.host.circuit import CIRCUIT
from mesh.p2p.host.connections import Connections
from mesh.p2p.host.swarm import Dialled, DoorSwarm, wire_of
from mesh.p2p.overlay import DialFailed

# Addresses that may work get this long before a relay is troubled.
_CIRCUIT_DELAY_S = 1.0
_MAX_CIRCUITS = 4
# RFC 8305, section 5: the delay before the next address is tried beside the one before.
_STAGGER_S = 0.25
_MAX_ADDRESSES = 16
# What an address that answers gets for its handshake before the next has its turn, however many there are.
_SECURE_AT_LEAST_S = 1.0
# The fastest first; measured beside each other in benchmarks/overlay.py.
_PREFERENCE = ("tcp", "ws", "wss", *OVER_UDP)


class Dialler:
    """Dials a peer once at a time.

    ``gate`` are the access rules in force; ``others`` counts the connections that are there or being made by others.
    """

    def __init__(
        self, swarm: DoorSwarm, connections: Connections, *, max_connections: int, private: bool = False
    ) -> None:
        self._swarm = swarm
        self._connections = connections
        self._max_connections = max_connections
        self._hint = " (is it in our private network?)" if private else ""
        self._locks: dict[str, trio.Lock] = {}
        self.gate: Callable[[], Gate] = lambda: Gate(Access())
        self.others: Callable[[], int] = lambda: sum(1 for _ in self._connections)
        self.in_progress = 0
        # Circuit addresses to try for a peer, of those given and others; and how one of them is dialled.
        self.circuits: Callable[[str, Sequence[str]], list[str]] = _given_circuits
        self.dial_circuit: Callable[[str, ID], Awaitable[IRawConnection]] = _no_circuits

    async def dial(self, peer: str, addresses: Sequence[str], timeout_s: float) -> None:
        """Return once connected. Raises DialFailed, which names what happened at each address."""
        failures: list[str] = []
        if (denied := self.gate().deny_dial(peer)) is not None:
            raise DialFailed(str(denied), remedy="`mesh peers rules` says by which rule.")
        with trio.move_on_after(timeout_s) as deadline:
            lock = self._locks.setdefault(peer, trio.Lock())
            try:
                async with lock:
                    if self._connections.of(peer) is None:
                        self.in_progress += 1
                        try:
                            direct = [address for address in addresses if CIRCUIT not in address]
                            await self._dial(peer, direct, failures, timeout_s, self.circuits(peer, addresses))
                        finally:
                            self.in_progress -= 1
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

    async def reach_directly(self, peer: str, addresses: Sequence[str], timeout_s: float) -> bool:
        """Dial a peer to which there may be a connection already; whether there is one without a relay now."""
        direct = [address for address in addresses if CIRCUIT not in address]
        if self.gate().deny_dial(peer) is None:
            with trio.move_on_after(timeout_s):
                await self._dial(peer, direct, [], timeout_s)
        return self._connections.direct(peer) is not None

    async def probe(self, peer: str, addresses: Sequence[str], timeout_s: float) -> str:
        """Whether a connected peer can be dialled; the address that worked, or nothing. The connection is closed."""
        before = self._connections.dialled(peer)
        await self.reach_directly(peer, addresses, timeout_s)
        made = self._connections.dialled(peer)
        if made is None:
            return ""
        if before is None:
            made.wire.abort("only tried")
        return made.wire.address

    async def _dial(
        self,
        peer: str,
        addresses: Sequence[str],
        failures: list[str],
        timeout_s: float,
        circuits: Sequence[str] = (),
    ) -> None:
        total = self.others() + self.in_progress
        if total > self._max_connections:
            failures.append(f"{total} connections are over [overlay] max_connections {self._max_connections}")
            return
        peer_id, targets = _targets(peer, [one for one in addresses if self._may_be_at(peer, one, failures)], failures)
        circuits = [one for one in circuits[:_MAX_CIRCUITS] if self._may_go_to(one, failures)]
        patience_s = max(timeout_s / max(len(targets) + len(circuits), 1), _SECURE_AT_LEAST_S)
        hopeless = trio.Event()  # no direct address is left
        waiting = len(targets)
        send, receive = trio.open_memory_channel[tuple[str, Dialled | Exception]](_MAX_ADDRESSES + _MAX_CIRCUITS)
        try:
            async with trio.open_nursery() as nursery:
                for order, target in enumerate(targets):
                    nursery.start_soon(self._reach, target, peer_id, order * _STAGGER_S, send)
                for circuit in circuits:
                    nursery.start_soon(self._reach_circuit, circuit, peer_id, hopeless, send)
                for _ in (*targets, *circuits):
                    if not waiting:
                        hopeless.set()
                    address, reached = await receive.receive()
                    waiting -= CIRCUIT not in address
                    with trio.move_on_after(patience_s) as patience:
                        if await self._secure(peer_id, address, reached, failures):
                            break
                    if patience.cancelled_caught:
                        failures.append(f"{address}: no answer within {patience_s:g} s{self._hint}")
                nursery.cancel_scope.cancel()
        finally:
            await _close_unused(receive)

    def _may_be_at(self, peer: str, address: str, failures: list[str]) -> bool:
        """Over WebRTC who is dialled knows us first, and would give up the connection that there is for the new one."""
        plain = address.partition("/p2p/")[0]
        there = {one.peer for one in self._connections if one.wire.transport == WEBRTC and one.wire.address == plain}
        if there - {peer}:
            failures.append(f"{address}: is where {', '.join(there)} is")
            return False
        return self._may_go_to(address, failures)

    def _may_go_to(self, address: str, failures: list[str]) -> bool:
        denied = self.gate().deny_address(ip) if (ip := _ip_of(address)) else None
        if denied is not None:
            failures.append(f"{address}: {denied}")
        return denied is None

    async def _reach(
        self,
        target: Multiaddr,
        peer: ID,
        delay_s: float,
        send: trio.MemorySendChannel[tuple[str, Dialled | Exception]],
    ) -> None:
        await trio.sleep(delay_s)
        transport = self._swarm.transport_manager.transport_for_dialing(target)
        if transport is None:
            send.send_nowait((str(target), OpenConnectionError("no transport for this kind of address")))
            return
        try:
            secures_itself = udp_target_of(str(target)) is not None  # and hangs up on others before they know us
            made = await transport.dial(Multiaddr(f"{target}/p2p/{peer}") if secures_itself else target)
            send.send_nowait((str(target), made))
        except (OpenConnectionError, OSError) as error:
            send.send_nowait((str(target), error))

    async def _reach_circuit(
        self,
        address: str,
        peer: ID,
        hopeless: trio.Event,
        send: trio.MemorySendChannel[tuple[str, Dialled | Exception]],
    ) -> None:
        with trio.move_on_after(_CIRCUIT_DELAY_S):
            await hopeless.wait()
        try:
            send.send_nowait((address, await self.dial_circuit(address, peer)))
        except (OpenConnectionError, OSError) as error:
            send.send_nowait((address, error))

    async def _secure(self, peer_id: ID, address: str, reached: Dialled | Exception, failures: list[str]) -> bool:
        if isinstance(reached, Exception):
            failures.append(f"{address}: {_root(reached)}")
            return False
        try:
            await self._swarm.secure_and_add(reached, peer_id)
        except (BaseLibp2pError, EOFError, OSError, ValueError) as error:
            failures.append(f"{address}: {wire_of(reached).failure or _root(error)}")
            return False
        return self._connections.of(str(peer_id)) is not None


def _given_circuits(_peer: str, addresses: Sequence[str]) -> list[str]:
    return [address for address in addresses if CIRCUIT in address]


async def _no_circuits(address: str, _peer: ID) -> IRawConnection:
    raise OpenConnectionError(f"{address} goes through a relay, and [overlay] relay is off")


def _ip_of(address: str) -> str:
    match address.split("/"):
        case ["", "ip4" | "ip6", ip, *_]:
            return ip
    return ""


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
    taken_apart = target_of(str(target)) or udp_target_of(str(target))
    return _PREFERENCE.index(taken_apart.transport) if taken_apart is not None else len(_PREFERENCE)


async def _close_unused(receive: trio.MemoryReceiveChannel[tuple[str, Dialled | Exception]]) -> None:
    with suppress(trio.WouldBlock):
        while True:
            _, reached = receive.receive_nowait()
            if not isinstance(reached, Exception):
                await reached.close()


def _root(error: BaseException) -> str:
    """The innermost cause says most; of several the first."""
    while (cause := error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__) is not None:
        error = cause
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error) or type(error).__name__
