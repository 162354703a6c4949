"""``mesh why``"""

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from mesh.cli.options import ReadOptions
from mesh.cli.render import console, print_json, short_peer
from mesh.cli.votes import count_lines, vote_line
from mesh.cli.whole_ids import whole_id
from mesh.errors import MeshError

if TYPE_CHECKING:
    from mesh.config import Config
    from mesh.events.store import EventReader
    from mesh.experts.explain import DecisionExplained, Explanation
    from mesh.experts.links import LinkQuality
    from mesh.experts.state import RoutingState
    from mesh.home import Home

Names = Mapping[str, str]
_PEER_ID = re.compile(r"\b12D3Koo\w{34,}")


def why(
    request: Annotated[
        str,
        Parameter(help="The request's id as it was given out (chatcmpl-… and resp_… too), or its first 8 or more"),
    ],
    /,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Why a request went where it went: every decision with what it saw, made again from the journal."""
    explanation = asyncio.run(_explain(request, options))
    if options.json:
        print_json(msgspec.to_builtins(explanation))
        return
    out = console()
    _print_parts(out, explanation)
    for decision in explanation.decisions:
        _print_decision(out, decision, explanation.names)
    _print_votes(out, explanation)
    out.print("[bold]What happened[/]")
    for step in explanation.timeline:
        name = step.fact.removeprefix("request.")
        text = _shortened(step.text, explanation.names)
        out.print(f"{step.position:>7}  {step.time[11:23]}  {name:<15} {text}", markup=False, soft_wrap=True)


async def _explain(request: str, options: ReadOptions) -> "Explanation":
    from mesh.events.codec import decode
    from mesh.experts.explain import Explainer
    from mesh.identity import load_key_file
    from mesh.journals import journal_reader

    home, config = options.load()
    local = load_key_file(home.key_file).peer_id
    request = await whole_id(request, lambda prefix: _ids(prefix, home, config))
    async with journal_reader(home, config) as reader:
        state, first = await _begin(request, local, home, config, reader)
        explainer = Explainer(local, request, state)
        async for batch in reader.read(first):
            for record in batch:
                explainer.feed(decode(record))
    try:
        return explainer.result()
    except LookupError as error:
        raise MeshError(str(error), remedy="`mesh requests` lists the ids.") from None


async def _begin(
    request: str, local: str, home: "Home", config: "Config", reader: "EventReader"
) -> "tuple[RoutingState, int]":
    """What routing knew at the last snapshot before the request, and the position that follows it.

    The tables say where the request begins. Where they do not know it, or the journal has something else there, all of
    the journal is folded.
    """
    from mesh.experts.state import RoutingState
    from mesh.journals import snapshot_files

    state = RoutingState(local)
    began = await _taken_in_at(request, local, home, config, reader)
    snapshots = snapshot_files(home, config, local)
    snapshot = await snapshots.fitting(reader, began - 1) if began is not None else None
    if snapshot is None:
        return state, 1
    snapshot.restore({"routing": state})
    return state, snapshot.position + 1


async def _ids(prefix: str, home: "Home", config: "Config") -> list[str]:
    from mesh.projections.database import database_url
    from mesh.projections.queries import Queries

    async with Queries(database_url(home, config.storage)) as tables:
        return await tables.request_ids(prefix)


async def _taken_in_at(request: str, local: str, home: "Home", config: "Config", reader: "EventReader") -> int | None:
    from mesh.events.codec import decode
    from mesh.events.vocabulary.requests import RequestReceived
    from mesh.projections.database import DatabaseMissing, DatabaseUnusable, database_url
    from mesh.projections.queries import Queries

    try:
        async with Queries(database_url(home, config.storage)) as tables:
            position = await tables.taken_in_at(request, local)
    except (DatabaseMissing, DatabaseUnusable):
        return None
    if position is None or position > await reader.last_position():
        return None
    async for (record,) in reader.read(position, position):
        fact = decode(record).fact
        return position if isinstance(fact, RequestReceived) and fact.request == request else None
    return None


def _print_parts(out: Console, explanation: "Explanation") -> None:
    """Into what it was split, and whose answer each part has."""
    ends = {end.part: end for end in explanation.ends}
    for number, part in enumerate(explanation.parts, 1):
        line = f"part {number:<3}    {part.domain} ({part.by}), {part.chars} characters from {part.start}"
        if (end := ends.get(number)) is not None:
            whose = f"{end.expert} at {_shown(end.peer, explanation.names)}"
            line += f": {end.error}, {end.message}" if end.error else f": {whose}"
        out.print(line + (f"  ({part.note})" if part.note else ""), markup=False, soft_wrap=True)
    if explanation.parts:
        out.print()


def _print_decision(out: Console, decision: "DecisionExplained", names: Names) -> None:
    part = f"part {decision.part}, " if decision.part else ""
    out.print(
        f"[bold]Decision for attempt {decision.attempt}[/]  {part}{decision.purpose}, "
        f"domain {decision.domain} ({decision.domain_by}), "
        f"policy {decision.policy} v{decision.policy_version} ({decision.best} score wins), "
        f"as of position {decision.as_of}, seed {decision.seed}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "peer", "expert", "score", "why", "latency ms", "in flight", "load", "success", "health", "link"):
        table.add_column(name)
    for option in decision.options:
        features = option.candidate.features
        table.add_row(
            "→" if option.chosen else str(option.place + 1),
            _shown(option.candidate.target.peer, names),
            option.candidate.target.expert,
            f"{option.score:.4g}",
            _shortened(option.note, names),
            f"{features.latency_ms:,.1f}" + ("" if features.measured else " (guess)"),
            f"{features.in_flight} + {features.others}",
            f"{features.load:.0%}",
            f"{features.success:.3f}",
            features.status or "–",
            _link(features.link),
        )
    out.print(table)
    for exclusion in decision.excluded:
        target = f"{_shown(exclusion.peer, names)}/{exclusion.expert}"
        out.print(f"excluded    {target}: {exclusion.reason}, {exclusion.detail}", markup=False)
    if decision.other_domains:
        out.print(f"excluded    {decision.other_domains} more that do not serve the domain", markup=False)
    if decision.withheld:
        out.print(f"withheld    {decision.withheld}", markup=False)
    verdict = "green" if decision.recomputed == "identical" else "bold red"
    out.print(f"recomputed: [{verdict}]{decision.recomputed}[/]\n")


def _link(link: "LinkQuality") -> str:
    """Round trip ± jitter, loss, age of the connection: what was measured of it."""
    parts = [f"{link.rtt_ms:.1f} ±{max(0.0, link.jitter_ms):.1f} ms"] if link.rtt_ms >= 0 else []
    parts += [f"{link.loss:.1%} lost"] if link.loss > 0 else []
    parts += [f"{link.age_s:.0f} s old"] if link.age_s >= 0 else []
    return ", ".join(parts) or "–"


def _print_votes(out: Console, explanation: "Explanation") -> None:
    if explanation.count is not None:
        for line in count_lines(explanation.count):
            out.print(_shortened(line, explanation.names), markup=False, soft_wrap=True)
    for vote in explanation.votes:
        out.print(vote_line(vote, _shown(vote.peer, explanation.names)), markup=False, soft_wrap=True)
    for failure in explanation.failures:
        out.print(f"failure     {_shortened(failure, explanation.names)}", markup=False, soft_wrap=True)
    if explanation.fallback:
        out.print(f"fallback    {explanation.fallback}", markup=False)
    if explanation.cached_from:
        out.print(f"cached      found for another request: mesh why {explanation.cached_from}", markup=False)


def _shown(peer: str, names: Names) -> str:
    """The end of a PeerId behind the name that its node goes by."""
    return f"{names[peer]} {short_peer(peer)}" if peer in names else short_peer(peer)


def _shortened(text: str, names: Names) -> str:
    """PeerIds in a text, shortened: the whole ones are in ``--json``."""
    return _PEER_ID.sub(lambda found: _shown(found[0], names), text)
