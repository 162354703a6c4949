"""``mesh show``, ``mesh forget`` and ``mesh requests --content``: the texts of requests, where they are kept."""

import asyncio
import getpass
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mesh.cli.options import ReadOptions
from mesh.cli.read import projected
from mesh.cli.render import print_json, print_rows
from mesh.cli.whole_ids import whole_id
from mesh.errors import MeshError

if TYPE_CHECKING:
    from mesh.experts.content_keys import ContentKeys
    from mesh.projections.queries import Queries

Row = dict[str, Any]
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_LIST_CHARS = 70
_PART = re.compile(r"[0-9a-f-]{36}\.\d+")  # of a request, as one that was served here


def show(
    request: Annotated[
        str,
        Parameter(help="The request's id as it was given out (chatcmpl-… and resp_… too), or its first 8 or more"),
    ],
    /,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """What was asked and answered, as far as this node keeps it and has the key."""
    taken_in, served = asyncio.run(projected(options, lambda tables: _texts(request, tables)))
    if not taken_in and not served:
        raise MeshError(f"the tables have no request {request!r}", remedy="`mesh requests` lists the ids.")
    keys = _keys(options)
    rows = [_readable(row, keys) for row in taken_in] + [_readable_served(row, keys) for row in served]
    rows = rows if not taken_in else [row for row in rows if row["kept"] or row["role"] == "asked"]
    if options.json:
        for row in rows:
            print_json(row)
        return
    for row in rows:
        _print(row)


def forget(
    *requests: Annotated[
        str, Parameter(help="The requests' ids as they were given out, or the first 8 or more of each")
    ],
    older_than: Annotated[str, Parameter(help="All that are older: 12h, 30d, 8w")] = "",
    caller: Annotated[str, Parameter(help="All of this caller, as `mesh requests --json` names it")] = "",
    actor: Annotated[str, Parameter(help="Who decides [default: your user name]", show_default=False)] = "",
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Erase the keys of what is sealed of requests. Nobody can read it then; the history stays whole."""
    from mesh.api.client import Mesh
    from mesh.experts.forgetting import Forgotten

    if bool(requests) == bool(older_than or caller):
        raise MeshError("what should be forgotten?", remedy="Name requests, or give --older-than or --caller.")
    age = _seconds(older_than) if older_than else None
    who = actor or getpass.getuser()

    async def run() -> Forgotten:
        async with Mesh.connect(options.open().root) as mesh:
            meant = [await _meant(one, options) for one in requests]
            return await mesh.forget(meant, older_than_s=age, caller=caller, actor=who)

    done = asyncio.run(run())
    if options.json:
        print_json({"forgotten": done.count, "without_key": list(done.without_key)})
    else:
        print(f"forgotten: {done.count} request{'s' * (done.count != 1)}")
    if done.without_key:
        reasons = [asyncio.run(projected(options, partial(_why_without_key, one))) for one in done.without_key]
        raise MeshError("; ".join(reasons), remedy="`mesh requests` lists the ids, `mesh show` says what is kept.")


async def _meant(given: str, options: ReadOptions) -> str:
    """The id that is meant. One that is whole is taken as it stands: its key is erased whatever the tables know."""
    if _PART.fullmatch(given):
        return given
    return await whole_id(
        given, lambda prefix: projected(options, lambda tables: tables.request_ids(prefix, served=True))
    )


async def _why_without_key(request: str, tables: "Queries") -> str:
    taken_in, served = await tables.texts(request)
    rows = taken_in + served
    kept = {row["kept"] for row in rows}
    if not rows:
        return f"there is no request {request}"
    if "full" in kept:
        return f"{request} is kept in full, in the journal: only what is sealed can be forgotten"
    if "sealed" in kept or any(row["forgotten_at"] for row in taken_in):
        return f"no key is kept of {request}: it was forgotten before"
    return f"no key is kept of {request}: there are only digests of it"


def print_requests(rows: list[Row], options: ReadOptions) -> None:
    """Rows of ``requests`` with their texts."""
    keys = _keys(options)
    texts = [_readable(row, keys) for row in rows]
    if not options.json:
        texts = [{**row, "content": _short(row["content"]), "answer": _short(row["answer"])} for row in texts]
    columns = ("request", "caller", "kept", "content", "answer", "note")
    print_rows(texts, columns=columns, as_json=options.json, empty="No requests yet: try `mesh ask`.")


async def _texts(given: str, tables: "Queries") -> tuple[list[Row], list[Row]]:
    """What is kept of the request that is meant; ``REQUEST.n``, a part that was served here, is an id as it stands."""
    found = await tables.texts(given)
    if any(found):
        return found
    return await tables.texts(await whole_id(given, lambda prefix: tables.request_ids(prefix, served=True)))


def _keys(options: ReadOptions) -> "ContentKeys":
    from mesh.experts.content_keys_files import FileContentKeys

    return FileContentKeys(options.open().content_keys)


def _readable(row: Row, keys: "ContentKeys") -> Row:
    """What a row of ``requests`` has of its texts, opened."""
    content, answer = row["content"], row["answer"]
    if row["sealed_content"] or row["sealed_answer"]:
        content = _opened(row["sealed_content"], row["request"], "content", keys)
        answer = _opened(row["sealed_answer"], row["request"], "answer", keys)
    told = {"content": content, "answer": answer, "note": _note(row, content or answer)}
    who = {"request": row["request"], "role": "asked", "caller": row["caller"], "node": row["node"]}
    return {**who, "kept": row["kept"] or "digest", "state": row["state"], "at": row["received_at"], **told}


def _readable_served(row: Row, keys: "ContentKeys") -> Row:
    """The same of a row of ``served``: what another node asked of one of our experts."""
    content, answer = row["content"], row["answer"]
    opened = _opened(row["sealed"], row["request"], "served", keys)
    if opened is not None:
        content, answer = json.loads(opened)
    told = {"content": content, "answer": answer, "note": _note({**row, "forgotten_at": None}, content or answer)}
    who = {"request": row["request"], "role": "served", "caller": row["caller"], "node": row["node"]}
    return {**who, "kept": row["kept"], "state": row["outcome"], "at": row["served_at"], **told}


def _opened(sealed: str | None, request: str, part: str, keys: "ContentKeys") -> str | None:
    from mesh.experts.content import ContentUnreadable, unseal

    for key in keys.find(request) if sealed else ():
        try:
            return unseal(sealed or "", key.key, request=request, part=part)
        except ContentUnreadable:
            continue
    return None


def _note(row: Row, text: str | None) -> str:
    """Why there is no text, where there is none."""
    if text:
        return ""
    if row["forgotten_at"]:
        return f"forgotten at {row['forgotten_at'][:19]}"
    if row["kept"] == "sealed":
        return "sealed, and its key is not here (forgotten?)" if _is_sealed(row) else "too long to keep"
    return "too long to keep" if row["kept"] == "full" else "only digests are kept"


def _is_sealed(row: Row) -> bool:
    return bool(row.get("sealed") or row.get("sealed_content") or row.get("sealed_answer"))


def _print(row: Row) -> None:
    by = "asked here" if row["role"] == "asked" else "served here"
    print(f"{row['request']}  {by} by {row['caller']}, {row['state']}, kept: {row['kept'] or '–'}")
    if row["note"]:
        print(row["note"])
        return
    print(f"\n{row['content'] or '–'}\n\n{row['answer'] or '–'}")


def _short(text: str | None) -> str:
    flat = " ".join((text or "").split())
    return flat if len(flat) <= _LIST_CHARS else flat[: _LIST_CHARS - 1] + "…"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise MeshError(f"{text!r} is no age", remedy="Write a number and s, m, h, d or w, like 30d.")
    return float(found[1]) * _UNITS[found[2]]
