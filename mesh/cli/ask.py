"""``mesh ask``"""

import asyncio
import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json, short_peer


def ask(
    prompt: Annotated[str, Parameter(help="What to ask; `-` reads it from standard input")],
    /,
    *,
    domain: Annotated[
        str, Parameter(help="reasoning, coding, language, mathematics, tool_use, context, …; auto: guess")
    ] = "auto",
    expert: Annotated[str, Parameter(help="Only experts of this name")] = "",
    strategy: Annotated[str, Parameter(help="local_only, best_peer, distributed, consensus")] = "",
    policy: Annotated[str, Parameter(help="p2c_peak_ewma, weighted, round_robin")] = "",
    fan_out: Annotated[int, Parameter(help="Experts asked by distributed and consensus; 0: as configured")] = 0,
    timeout: Annotated[float, Parameter(help="Seconds until the answer must be there; 0: as configured")] = 0,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> None:
    """Ask the mesh. The answer streams to standard output; how it came about goes to standard error."""
    content = sys.stdin.read() if prompt == "-" else prompt
    asyncio.run(
        _ask(
            content,
            options,
            domain=domain,
            expert=expert,
            strategy=strategy,
            policy=policy,
            fan_out=fan_out,
            timeout=timeout,
        )
    )


async def _ask(content: str, options: ReadOptions, **choices: str | float) -> None:
    from mesh.api.client import Mesh

    def show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    async with Mesh.connect(options.open().root) as mesh:
        outcome = await mesh.ask(content, on_text=None if options.json else show, **choices)  # type: ignore[arg-type]
    if options.json:
        print_json(msgspec.to_builtins(outcome))
        return
    print()
    by = ", ".join(f"{short_peer(peer)}" for peer in outcome.peers)
    print(
        f"[{outcome.expert} at {by}, {outcome.latency_ms:.0f} ms, "
        f"attempt {outcome.attempts}; mesh why {outcome.request}]",
        file=sys.stderr,
    )
