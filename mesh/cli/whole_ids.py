"""Ids as people have them: whole, as a client of the gateway got a request's, or how they begin."""

import re
from collections.abc import Awaitable, Callable, Sequence

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
    if not (found := await beginning_with(request)):
        raise MeshError(f"no request's id begins with {request!r}", remedy="`mesh requests` lists the ids.")
    return only(request, found)


def only(prefix: str, found: Sequence[str]) -> str:
    """The one id that was found to begin so. Raises MeshError when there are several."""
    if len(found) > 1:
        raise MeshError(f"{prefix!r} begins {', '.join(found)}, and perhaps more", remedy="Give more of it.")
    return found[0]
