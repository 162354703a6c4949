"""Where the domain was guessed and the guess came to nothing, the request goes on to the default domain, once.

It came to nothing when nobody could be asked there, or when who was asked refused the request as ``invalid``. Any other
failure says nothing of the domain. ``fallback = "off"`` keeps a request from it.
"""

from collections.abc import Awaitable, Callable

import msgspec

from mesh.experts.attempts import Attempts
from mesh.experts.queries import QueryFailed
from mesh.experts.strategies.strategy import Result

_NOTHING = {"no_candidates": "nobody there could be asked", "invalid": "it was refused there as invalid"}


async def past_the_guess(attempts: Attempts, run: Callable[[Attempts], Awaitable[Result]]) -> Result:
    """The result of ``run`` in the domain of the plan, or in the default domain. Raises QueryFailed."""
    guess = attempts.plan
    try:
        return await run(attempts)
    except QueryFailed as failure:
        instead = attempts.instead if failure.kind in _NOTHING else None
        if instead is None:
            raise
        reason = f"{guess.domain} was a guess ({guess.domain_by}), and {_NOTHING[failure.kind]}"
        attempts.go_on(instead, reason)
        result = await _or_the_first(attempts, run, failure)
    fallback = f"{instead.domain}: {reason}" + (f"; {result.fallback}" if result.fallback else "")
    return msgspec.structs.replace(result, fallback=fallback)


async def _or_the_first(attempts: Attempts, run: Callable[[Attempts], Awaitable[Result]], first: QueryFailed) -> Result:
    """What was said to the guess says more than that nobody could be asked after it."""
    try:
        return await run(attempts)
    except QueryFailed as failure:
        raise (first if failure.kind == "no_candidates" else failure) from failure
