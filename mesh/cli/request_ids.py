"""A request's id as people have it: whole, as a client of the gateway got it, or how it begins."""

import re
from collections.abc import Awaitable, Callable

from mesh.errors import MeshError

LEAST = 8
_WHOLE = 36
_GIVEN_OUT = re.compile(r"^(chatcmpl-|cmpl-|resp_|msg_|fc_)")


async def whole_id(given: str, beginning_with: Callable[[str], Awaitable[list[str]]]) -> str:
    """The id that is meant; ``beginning_with`` tells which there are.

    Raises MeshError when it is too short, or begins none or several of them.
    """
    request = _GIVEN_OUT.sub("", given.strip().lower())[:_WHOLE]
    if len(request) == _WHOLE:
        return request
    if len(request) < LEAST:
        raise MeshError(
            f"{given!r} is no request's id, and too short for how one begins: {LEAST} characters are the least",
            remedy="`mesh requests` lists the ids.",
        )
    found = await beginning_with(request)
    if len(found) == 1:
        return found[0]
    if not found:
        raise MeshError(f"no request's id begins with {request!r}", remedy="`mesh requests` lists the ids.")
    raise MeshError(f"{request!r} begins {', '.join(found)}, and perhaps more", remedy="Give more of it.")
