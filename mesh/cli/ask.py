"""``mesh ask``"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, Token

from mesh.cli.options import ReadOptions, Whole
from mesh.cli.render import print_json, short_peer
from mesh.cli.votes import print_votes
from mesh.errors import MeshError

_TERMINATED = 128 + signal.SIGTERM


def _refuse_option(_type: object, value: str) -> None:
    if value.startswith("--"):
        raise ValueError(f"There is no option {value}; a prompt that begins so can come from standard input (`-`)")


def _refuse_more(_type: object, tokens: Sequence[Token]) -> str:
    raise ValueError(f"The question ends before {tokens[0].value!r}. Quote it whole: mesh ask 'What is 6*7?'")


def ask(
    prompt: Annotated[
        str,
        Parameter(
            help="What to ask; `-` reads it from standard input", allow_leading_hyphen=True, validator=_refuse_option
        ),
    ],
    /,
    *more: Annotated[str, Parameter(show=False, converter=_refuse_more)],  # noqa: ARG001 - only to be refused
    domain: Annotated[
        str, Parameter(help="reasoning, coding, language, mathematics, tool_use, context, …; auto: guess")
    ] = "auto",
    expert: Annotated[str, Parameter(help="Only experts of this name")] = "",
    strategy: Annotated[str, Parameter(help="local_only, best_peer, distributed, consensus")] = "",
    policy: Annotated[str, Parameter(help="p2c_peak_ewma, weighted, round_robin, sticky, …: docs/routing.md")] = "",
    fan_out: Annotated[Whole, Parameter(help="Experts asked by distributed and consensus; 0: as configured")] = 0,
    split: Annotated[str, Parameter(help="distributed: ask the parts of it one by one: auto, always, never")] = "",
    cache: Annotated[str, Parameter(help="on: an answer to exactly this will do; off: it will not")] = "",
    keep: Annotated[str, Parameter(help="Journals keep no more of it than this: digest, sealed")] = "",
    faults: Annotated[Whole, Parameter(help="consensus: liars to bear; asks 3f+1, needs 2f+1; 0: as configured")] = 0,
    agreement: Annotated[str, Parameter(help="consensus: exact, normalised, semantic")] = "",
    timeout: Annotated[float, Parameter(help="Seconds until the answer must be there; 0: as configured")] = 0,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Ask the mesh. The answer streams to standard output; how it came about goes to standard error."""
    content = _standard_input() if prompt == "-" else prompt
    choices = {
        "domain": domain,
        "expert": expert,
        "strategy": strategy,
        "policy": policy,
        "fan_out": fan_out,
        "split": split,
        "faults": faults,
        "agreement": agreement,
        "timeout": timeout,
        "cache": cache,
        "keep": keep,
    }
    try:
        asyncio.run(_ask(content, options, choices))
    except asyncio.CancelledError:
        sys.exit(_TERMINATED)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise MeshError(f"standard input is not UTF-8: {error}", remedy="Convert it first.") from None
    except OSError as error:
        raise MeshError(f"standard input cannot be read: {error.strerror}") from None


async def _ask(content: str, options: ReadOptions, choices: dict[str, Any]) -> None:
    from mesh.api.client import Mesh, RequestFailed

    shown: list[int] = []

    def show(text: str) -> None:
        shown.append(len(text))
        sys.stdout.write(text)
        sys.stdout.flush()

    _end_with_the_terminal()
    try:
        async with Mesh.connect(options.open().root) as mesh:
            outcome = await mesh.ask(content, on_text=None if options.json else show, **choices)
    except RequestFailed as failure:
        if options.json:
            print_json({"error": {"kind": failure.kind, "message": failure.message}, "request": failure.request})
        elif shown:
            print()
        raise
    if options.json:
        print_json(msgspec.to_builtins(outcome))
        return
    print()
    by = ", ".join(f"{short_peer(peer)}" for peer in outcome.peers)
    print(
        f"[{outcome.expert} at {by}, {outcome.latency_ms:.0f} ms, "
        f"attempts {outcome.attempts}; mesh why {outcome.request}]",
        file=sys.stderr,
    )
    if outcome.fallback:
        print(f"fallback    {outcome.fallback}", file=sys.stderr)
    print_votes(outcome)


def _end_with_the_terminal() -> None:
    """A terminal that is closed and a `kill` take the request back, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
