"""Finding the nodes of this mesh on the local network: mDNS in libp2p's own record format."""

import asyncio
import secrets
from collections.abc import Callable, Sequence

import psutil
import structlog
from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from mesh.errors import MeshError
from mesh.p2p.interfaces import interface_ips, is_loopback
from mesh.p2p.mdns_query import OneShotQuery
from mesh.p2p.mdns_records import SERVICE, Announcement, decode_text, encode_text

_HEAR_OURSELVES_S = 2.0
_HEAR_OURSELVES_POLL_S = 0.01
_RESOLVE_MS = 3000
_MAX_PEERS = 4096

log = structlog.get_logger(__name__)


class MdnsUnavailable(MeshError):
    """Multicast does not work here; the mesh needs static peers."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"mDNS is not available: {reason}",
            remedy="Name peers in [overlay] peers, or an interface that carries multicast in mdns_interfaces.",
        )


class MdnsDiscovery:
    """Announces this node and finds others of the same mesh.

    ``addresses`` are multiaddrs that end in ``/p2p/<peer_id>``; with none but loopback among them only this machine
    is searched. ``interfaces`` are IP addresses of this machine; empty: all that carry the addresses.
    ``on_found(peer, addresses)`` is called on the event loop for each new peer, and again when its addresses change
    or it comes back.
    """

    def __init__(
        self,
        peer_id: str,
        mesh: str,
        addresses: Sequence[str],
        interfaces: Sequence[str],
        on_found: Callable[[str, tuple[str, ...]], None],
    ) -> None:
        self._peer_id = peer_id
        self._mesh = mesh
        self._addresses = tuple(addresses)
        self._interfaces = list(interfaces)
        self._on_found = on_found
        self._name = ""
        self._found: dict[str, Announcement] = {}
        self._resolving: set[asyncio.Task[None]] = set()
        self._announcing: list[asyncio.Future[None]] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._query: OneShotQuery | None = None

    async def start(self) -> None:
        """Announce and search until `stop`. Raises MdnsUnavailable, with the reason, where multicast does not work."""
        # The specification wants a name that tells nothing: the peer is in the record.
        self._name = f"{secrets.token_hex(16)}.{SERVICE}"
        interfaces = self._interfaces or multicast_interfaces(self._addresses)
        if not interfaces:
            raise MdnsUnavailable("no network interface carries multicast")
        unknown = set(interfaces) - set(interface_ips())
        if unknown:
            raise MdnsUnavailable(f"{', '.join(sorted(unknown))} is not an address of this machine")
        try:
            self._zeroconf = AsyncZeroconf(interfaces=interfaces)
            await self._begin(self._zeroconf, interfaces)
        except (OSError, RuntimeError, ValueError) as error:
            await self.stop()
            raise MdnsUnavailable(f"{', '.join(interfaces)}: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def _begin(self, zeroconf: AsyncZeroconf, interfaces: Sequence[str]) -> None:
        # The name is random: probing for 1.5 s whether somebody else has it finds nobody.
        announcing = await zeroconf.async_register_service(self._info(), cooperating_responders=True)
        self._announcing.append(asyncio.ensure_future(announcing))
        # Questions that want unicast answers would be answered to whichever process of this machine holds port 5353.
        self._browser = AsyncServiceBrowser(
            zeroconf.zeroconf, [SERVICE], handlers=[self._changed], question_type=DNSQuestionType.QM
        )
        self._query = await OneShotQuery.ask(interfaces, self._take)
        await self._hear_ourselves(zeroconf.zeroconf)

    async def announce(self, addresses: Sequence[str]) -> None:
        """The addresses have changed: tell."""
        if self._zeroconf is not None and tuple(addresses) != self._addresses:
            self._addresses = tuple(addresses)
            announcing = await self._zeroconf.async_update_service(self._info())
            self._announcing.append(asyncio.ensure_future(announcing))

    async def stop(self) -> None:
        """Withdraw the announcement and end the search. Again: no-op."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if self._query is not None:
            self._query.close()
        unfinished = (*self._resolving, *self._announcing)
        self._announcing.clear()
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        if zeroconf is None:
            return
        if self._browser is not None:
            await self._browser.async_cancel()
        _forget_delayed_answers(zeroconf.zeroconf)
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()

    def _info(self) -> AsyncServiceInfo:
        label = self._name.partition(".")[0]
        return AsyncServiceInfo(
            SERVICE,
            self._name,
            port=_port(self._addresses),
            properties=encode_text(self._mesh, self._addresses),
            server=f"{label}.local.",
            parsed_addresses=_ips(self._addresses),
        )

    async def _hear_ourselves(self, zeroconf: Zeroconf) -> None:
        """A network that swallows multicast does so in silence: our own announcement must come back to us."""
        try:
            async with asyncio.timeout(_HEAR_OURSELVES_S):
                while not self._is_heard(zeroconf):  # noqa: ASYNC110 - zeroconf's cache has no event
                    await asyncio.sleep(_HEAR_OURSELVES_POLL_S)
        except TimeoutError:
            raise MdnsUnavailable(f"nothing that was announced came back within {_HEAR_OURSELVES_S:g} s") from None

    def _is_heard(self, zeroconf: Zeroconf) -> bool:
        records = zeroconf.cache.async_entries_with_name(SERVICE)
        return any(getattr(record, "alias", None) == self._name for record in records)

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name == self._name:
            return
        if state_change is ServiceStateChange.Removed:
            self._found.pop(name, None)
            return
        info = AsyncServiceInfo(service_type, name)
        info.load_from_cache(zeroconf)
        if info.text:
            self._take(name, info.text)
            return
        task = asyncio.get_running_loop().create_task(self._resolve(zeroconf, info))
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        try:
            await info.async_request(zeroconf, _RESOLVE_MS, question_type=DNSQuestionType.QM)
        except OSError as error:
            log.debug("a service could not be resolved", service=info.name, error=str(error))
        if info.text:
            self._take(info.name, info.text)

    def _take(self, name: str, text: bytes) -> None:
        announcement = decode_text(text)
        if announcement is None or announcement.mesh != self._mesh or announcement.peer == self._peer_id:
            return
        if self._found.get(name) == announcement or len(self._found) >= _MAX_PEERS:
            return
        self._found[name] = announcement
        self._on_found(announcement.peer, announcement.addresses)


def _forget_delayed_answers(zeroconf: Zeroconf) -> None:
    """An answer that is sent after the farewell announces us again, for more than an hour."""
    for pending in (zeroconf.out_queue, zeroconf.out_delay_queue):
        pending.queue.clear()


def multicast_interfaces(addresses: Sequence[str]) -> list[str]:
    """The IPv4 addresses of the interfaces to search: this machine's loopback for addresses that never leave it."""
    ips = _ips(addresses)
    if ips and all(is_loopback(ip) for ip in ips):
        return ["127.0.0.1"]
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        address.address
        for name, known in psutil.net_if_addrs().items()
        for address in known
        if name in up and address.family.name == "AF_INET"
    ]
    return [ip for ip in found if not is_loopback(ip)] or found


def _ips(addresses: Sequence[str]) -> list[str]:
    parts = (address.split("/") for address in addresses)
    return list(dict.fromkeys(part[2] for part in parts if len(part) > 2 and part[1] in ("ip4", "ip6")))


def _port(addresses: Sequence[str]) -> int:
    for address in addresses:
        kinds = address.split("/")
        if "tcp" in kinds and kinds[kinds.index("tcp") + 1].isdigit():
            return int(kinds[kinds.index("tcp") + 1])
    return 0
