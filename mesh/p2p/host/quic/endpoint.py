"""A UDP socket that speaks QUIC: whose datagram it is, and who may begin a connection.

A first packet from anywhere costs nothing but a stateless Retry (RFC 9000, section 8.1.2): its token proves that the
sender gets what is sent to its address. Only then is it counted by `Doorkeeper`, and only then is there state.
"""

import os
from collections.abc import Callable
from functools import partial

import trio
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler
from libp2p.custom_types import THandler

from mesh.p2p.host.doorkeeper import Doorkeeper
from mesh.p2p.host.listening import Bound
from mesh.p2p.host.quic.connection import QuicMuxed, QuicWire
from mesh.p2p.host.quic.machine import Identity, Machine
from mesh.p2p.host.quic.refusal import refuse
from mesh.p2p.host.quic.resets import Resets
from mesh.p2p.host.receiving import ReceiveBudget
from mesh.p2p.host.udp import Address, Udp

_ID_BYTES = 8
_MIN_FIRST_DATAGRAM = 1200  # RFC 9000, section 14.1
_LONG_HEADER = 0x80


class QuicEndpoint:
    """One socket, and the connections that go through it, made by others or by us."""

    def __init__(
        self, bound: Bound, identity: Identity, resets: Resets, keeper: Doorkeeper, budget: ReceiveBudget
    ) -> None:
        self._udp = Udp(bound.raw)
        self._udp.on_unreachable = self._unreachable
        self._identity = identity
        self._resets = resets
        self._keeper = keeper
        self._budget = budget
        self._tokens = QuicRetryTokenHandler()
        self._by_id: dict[bytes, QuicMuxed] = {}
        self._by_remote: dict[Address, set[QuicMuxed]] = {}  # two of them where both dialled

    async def serve(self, handler: THandler) -> None:
        """Take datagrams for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                batch = await self._udp.receive()
                for muxed in self._take(batch, partial(self._keep, nursery, handler)):
                    muxed.flush()

    async def connect(self, remote: Address, nursery: trio.Nursery, peer: str = "") -> QuicMuxed:
        """A connection to ``peer``, or to whoever is there, proved to be who its ``peer_id`` says.

        Raises OSError, or trio.BrokenResourceError.
        """
        machine = Machine(self._identity, self._resets, is_client=True)
        muxed = self._muxed(machine, QuicWire(remote, inbound=False), peer)
        self._know(muxed, remote, machine.host_cid)
        nursery.start_soon(self._run, muxed, remote)
        try:
            self._begin(machine, remote)
            muxed.flush()
            await muxed.handshake()
        except BaseException:
            muxed.wire.abort("given up")
            raise
        return muxed

    def _begin(self, machine: Machine, remote: Address) -> None:
        """Send the first packet. Raises OSError where no way leads there from this socket."""
        machine.connect(remote, trio.current_time())
        for data, to in machine.datagrams_to_send(trio.current_time()):
            self._udp.send_or_raise(data, to)

    # --- datagrams -----------------------------------------------------------------------------------------------

    def _take(self, batch: list[tuple[bytes, Address]], keep: Callable[[QuicMuxed, Address], None]) -> set[QuicMuxed]:
        touched: set[QuicMuxed] = set()
        for data, remote in batch:
            muxed = self._by_id.get(_destination(data))
            if muxed is None:
                muxed = self._stranger(data, remote)
                if muxed is not None:
                    keep(muxed, remote)
            elif remote[0].partition("%")[0] != muxed.wire.host:
                continue  # another machine: rules are for addresses, and were asked about this one's
            if muxed is not None:
                muxed.receive(data, remote)
                touched.add(muxed)
        return touched

    def _unreachable(self, remote: Address) -> None:
        for muxed in list(self._by_remote.get(remote, ())):
            muxed.unreachable()

    # --- connections ---------------------------------------------------------------------------------------------

    def _stranger(self, data: bytes, remote: Address) -> QuicMuxed | None:
        """A connection for who begins one, where it may."""
        if not data or not data[0] & _LONG_HEADER:
            self._lost(data, remote)
            return None
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=_ID_BYTES)
        except ValueError:
            return None
        if header.version is None or len(data) < _MIN_FIRST_DATAGRAM:
            return None
        if header.version != QuicProtocolVersion.VERSION_1:
            self._name_versions(header, remote)
            return None
        return self._admit(header, remote) if header.packet_type == QuicPacketType.INITIAL else None

    def _lost(self, data: bytes, remote: Address) -> None:
        """A packet of a connection that we, or the peer, know nothing of."""
        if any(believer.is_reset_by(data) for believer in self._by_remote.get(remote, ())):
            return
        answer = self._resets.answer(_destination(data), len(data))
        if answer is not None:
            self._udp.send(answer, remote)

    def _name_versions(self, header: QuicHeader, remote: Address) -> None:
        if header.packet_type != QuicPacketType.VERSION_NEGOTIATION:  # two that answer each other would not stop
            versions = [int(QuicProtocolVersion.VERSION_1)]
            self._udp.send(encode_quic_version_negotiation(header.destination_cid, header.source_cid, versions), remote)

    def _admit(self, header: QuicHeader, remote: Address) -> QuicMuxed | None:
        if not header.token:
            self._ask_for_proof(header, remote)
            return None
        try:
            original = self._tokens.validate_token(
                address=remote, destination_cid=header.destination_cid, token=header.token, now=trio.current_time()
            )
        except ValueError:
            self._udp.send(refuse(header, QuicErrorCode.INVALID_TOKEN), remote)
            return None
        wire = QuicWire(remote, inbound=True)
        if not self._keeper.admits(wire):
            self._udp.send(refuse(header, QuicErrorCode.CONNECTION_REFUSED), remote)
            return None
        machine = Machine(
            self._identity, self._resets, is_client=False, original_cid=original, retry_cid=header.destination_cid
        )
        muxed = self._muxed(machine, wire)
        self._know(muxed, remote, header.destination_cid, machine.host_cid)
        return muxed

    def _ask_for_proof(self, header: QuicHeader, remote: Address) -> None:
        own = os.urandom(_ID_BYTES)
        token = self._tokens.create_token(
            address=remote,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=own,
            now=trio.current_time(),
        )
        assert header.version is not None
        self._udp.send(
            encode_quic_retry(
                version=header.version,
                source_cid=own,
                destination_cid=header.source_cid,
                original_destination_cid=header.destination_cid,
                retry_token=token,
            ),
            remote,
        )

    def _muxed(self, machine: Machine, wire: QuicWire, expected: str = "") -> QuicMuxed:
        return QuicMuxed(machine, wire, self._budget, send=self._udp.send, on_ids=self._on_ids, expected=expected)

    def _know(self, muxed: QuicMuxed, remote: Address, *ids: bytes) -> None:
        """It is for `_run` to forget it."""
        self._by_remote.setdefault(remote, set()).add(muxed)
        for one in ids:
            self._by_id[one] = muxed

    def _forget(self, muxed: QuicMuxed, remote: Address) -> None:
        for one in [one for one, of in self._by_id.items() if of is muxed]:
            del self._by_id[one]
        there = self._by_remote[remote]
        there.remove(muxed)
        if not there:
            del self._by_remote[remote]

    def _on_ids(self, muxed: QuicMuxed, connection_id: bytes, means_it: bool) -> None:
        if means_it:
            self._by_id[connection_id] = muxed
        else:
            self._by_id.pop(connection_id, None)

    def _keep(self, nursery: trio.Nursery, handler: THandler, muxed: QuicMuxed, remote: Address) -> None:
        async def serve() -> None:
            await muxed.handshake()
            await handler(muxed)  # type: ignore[arg-type]

        nursery.start_soon(self._run, muxed, remote)
        nursery.start_soon(self._keeper.keep, muxed.wire, serve)

    async def _run(self, muxed: QuicMuxed, remote: Address) -> None:
        try:
            await muxed.run()
        finally:
            muxed.wire.abort("closed by us")
            self._forget(muxed, remote)


def _destination(data: bytes) -> bytes:
    """The connection id that a packet is for (RFC 8999)."""
    if not data:
        return b""
    if data[0] & _LONG_HEADER:
        return data[6 : 6 + data[5]] if len(data) > 6 else b""
    return data[1 : 1 + _ID_BYTES]
