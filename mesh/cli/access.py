"""``mesh peers block | unblock | allow | disallow | rules``"""

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mesh.cli.options import HomeOption, ReadOptions
from mesh.cli.read import projected
from mesh.cli.render import print_rows
from mesh.errors import MeshError

if TYPE_CHECKING:
    from mesh.config import Config

Party = Annotated[str, Parameter(help="A PeerId (or its end, as `mesh peers` shows it), an address or a network")]
Reason = Annotated[str, Parameter(help="Why, for those who read the history")]
Actor = Annotated[str, Parameter(help="Who decides [default: your user name]", show_default=False)]
_DONE = {
    "block": ("blocked", "is blocked already"),
    "unblock": ("unblocked", ""),
    "allow": ("allowed", "is allowed already"),
    "disallow": ("disallowed", ""),
}


def block(party: Party, /, *, reason: Reason = "", actor: Actor = "", options: HomeOption = HomeOption()) -> None:  # noqa: B008 - frozen
    """Keep a peer or a network out: connections are closed, dials and visitors refused, at once and after restarts."""
    _change("block", party, reason, actor, options)


def unblock(party: Party, /, *, reason: Reason = "", actor: Actor = "", options: HomeOption = HomeOption()) -> None:  # noqa: B008 - frozen
    """Lift a block."""
    _change("unblock", party, reason, actor, options)


def allow(party: Party, /, *, reason: Reason = "", actor: Actor = "", options: HomeOption = HomeOption()) -> None:  # noqa: B008 - frozen
    """Put a peer or a network on the allow list: while there is anybody on it, everybody else is kept out."""
    _change("allow", party, reason, actor, options)


def disallow(party: Party, /, *, reason: Reason = "", actor: Actor = "", options: HomeOption = HomeOption()) -> None:  # noqa: B008 - frozen
    """Take a peer or a network off the allow list."""
    _change("disallow", party, reason, actor, options)


def rules(
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="", help="Lifted ones too")] = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Who is blocked and who is allowed: by the configuration, and by whom while the node ran."""
    made = asyncio.run(projected(options, lambda tables: tables.access_rules(active_only=not all_)))
    print_rows(
        [*_configured(options.load()[1]), *made],
        columns=("list", "party", "kind", "state", "actor", "reason", "since_at", "lifted_at"),
        as_json=options.json,
        empty="No rules: whoever is in the mesh is let in.",
    )


def _configured(config: "Config") -> list[dict[str, Any]]:
    from mesh.p2p.access import canonical

    return [
        {"list": name, "party": party, "kind": kind, "state": "active", "actor": "config.toml"}
        for name, entries in (("block", config.overlay.block), ("allow", config.overlay.allow))
        for kind, party in map(canonical, entries)
    ]


def _change(action: str, party: str, reason: str, actor: str, options: HomeOption) -> None:
    asyncio.run(_ask(action, party, reason, actor, options))


async def _ask(action: str, party: str, reason: str, actor: str, options: HomeOption) -> None:
    from mesh.api.client import Mesh

    named = await _whole(party, options)
    async with Mesh.connect(options.open().root) as mesh:
        changed = await mesh.access(action, named, actor=actor or getpass.getuser(), reason=reason)
    done, already = _DONE[action]
    closed = f", {changed.closed} connected peer{'s' * (changed.closed != 1)} cut off" if changed.closed else ""
    print(f"{done} {changed.party}{closed}" if changed.changed else f"{changed.party} {already}")


async def _whole(party: str, options: HomeOption) -> str:
    """The PeerId that ``party`` is the end of, if it is one; else ``party`` as it is."""
    end = party.strip().lstrip("…")
    if not end.isalnum() or not 6 <= len(end) < 40:
        return party
    known = [row["peer"] for row in await projected(options, lambda tables: tables.peers())]
    found = sorted({peer for peer in known if peer.endswith(end)})
    if len(found) > 1:
        raise MeshError(f"{party!r} is the end of {len(found)} PeerIds", remedy=f"Write one whole: {', '.join(found)}")
    return found[0] if found else party
