"""``mesh events``"""

import asyncio
import difflib
import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from mesh.cli.options import ReadOptions, Whole
from mesh.cli.render import console, print_json, short_peer
from mesh.errors import MeshError
from mesh.events.codec import decode
from mesh.events.envelope import Record
from mesh.events.vocabulary import FACTS
from mesh.home import Home, is_held
from mesh.identity import load_key_file

# Who reads what goes into no terminal wants whole lines.
_NO_LIMIT = 100_000


def tail(
    *,
    after: Annotated[
        Whole, Parameter(help="Start after this position; 0: from the very first event; -N: the last N")
    ] = -20,
    follow: Annotated[bool, Parameter(help="Go on as events happen", negative="--no-follow")] = True,
    only: Annotated[str, Parameter(help="Only this family or type: request, peer.connected …")] = "",
    origin: Annotated[
        str, Parameter(help="Only of this node: the end of its PeerId; own: of this one, others: of the others")
    ] = "",
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Print events from any past position, and follow."""
    _refuse_unknown(only)
    asyncio.run(_tail(after, follow=follow, only=only, origin=origin, options=options))


def show(
    position: Annotated[Whole, Parameter(help="The event's place in the journal, 1, 2, 3 …")],
    /,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Print one event whole, exactly as it is stored."""
    asyncio.run(_show(position, options))


def _refuse_unknown(only: str) -> None:
    known = {name for fact in FACTS for name in (fact.type, fact.type.partition(".")[0])}
    if only and only not in known:
        near = difflib.get_close_matches(only, sorted(known), n=1)
        families = ", ".join(sorted(name for name in known if "." not in name))
        raise MeshError(
            f"--only {only} is neither a family nor a type of events",
            remedy=f"Did you mean {near[0]}?" if near else f"The families are {families}.",
        )


async def _tail(after: int, *, follow: bool, only: str, origin: str, options: ReadOptions) -> None:
    from mesh.journals import journal_reader

    home, config = options.load()
    is_of = _of_origin(origin, home)
    stopped = not config.broker.url and home.root.exists() and not is_held(home)
    async with journal_reader(home, config) as reader:
        if follow and stopped:
            follow = False
            _note("the node is not running: there is nothing to follow after this")
        last = await reader.last_position()
        first = max(1, last + after + 1 if after < 0 else after + 1)
        if first > last + follow:
            _note(f"the journal ends at {last}: there is nothing after {first - 1}{' yet' * follow}")
        source = reader.follow(first) if follow else reader.read(first)
        printed = 0
        async for batch in source:
            printed += sum(_print_line(record, only, is_of, options) for record in batch)
            sys.stdout.flush()
    if not printed and (only or origin) and first <= last:
        more = "" if first == 1 else "; --after 0 reads all"
        _note(f"of the events from {first} to {last} none is what was asked for{more}")


def _note(text: str) -> None:
    """Beside the events: to standard error."""
    print(f"mesh: {text}", file=sys.stderr)


def _of_origin(wanted: str, home: Home) -> Callable[[str], bool]:
    """Whether a PeerId is one that ``--origin`` means."""
    if wanted in ("own", "others"):
        own = load_key_file(home.key_file).peer_id
        return lambda origin: (origin == own) == (wanted == "own")
    return lambda origin: origin.endswith(wanted.removeprefix("…"))


def _print_line(record: Record, only: str, is_of: Callable[[str], bool], options: ReadOptions) -> bool:
    """Whether it is what was asked for; then it is printed."""
    event = decode(record)
    if not is_of(event.origin) or (only and event.type != only and not event.type.startswith(only + ".")):
        return False
    if options.json:
        print_json(as_json(record))
        return True
    body = json.loads(record.payload)["data"]
    about = " ".join(f"{name}={_brief(value)}" for name, value in body.items())
    console(_NO_LIMIT).print(
        f"{record.position:>7} {event.time[11:23]} {short_peer(event.origin)} [bold]{event.type:<24}[/] {about}",
        overflow="ellipsis",
        no_wrap=True,
        markup=True,
    )
    return True


def _brief(value: Any) -> str:  # noqa: ANN401 - any JSON
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("[", "(").replace("]", ")")
    return text if len(text) <= 60 else text[:57] + "…"


async def _show(position: int, options: ReadOptions) -> None:
    from mesh.journals import journal_reader

    home, config = options.load()
    async with journal_reader(home, config) as reader:
        last = await reader.last_position()
        if not 1 <= position <= last:
            raise MeshError(f"there is no event {position}", remedy=f"The journal holds positions 1 to {last}.")
        async for batch in reader.read(position, position):
            for record in batch:
                print_json(as_json(record)) if options.json else console().print_json(json.dumps(as_json(record)))


def as_json(record: Record) -> dict[str, Any]:
    """A record as one JSON object: the CloudEvent, its place and its link to the event before."""
    return {
        "position": record.position,
        "prev": record.prev.hex(),
        "nats_subject": record.subject,
        "event": json.loads(record.payload),
    }
