"""``mesh status``"""

import asyncio

import msgspec

from mesh.cli.options import ReadOptions
from mesh.cli.render import console, print_json, short_peer


def status(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """What the running node says of itself."""
    from mesh.api.client import Mesh
    from mesh.api.messages import NodeStatus

    async def ask() -> NodeStatus:
        async with Mesh.connect(options.open().root) as mesh:
            return await mesh.status()

    answer = asyncio.run(ask())
    if options.json:
        print_json(msgspec.to_builtins(answer))
        return
    out = console()
    out.print(f"[bold]{answer.name}[/]  {answer.peer_id}  mesh {answer.mesh}  {answer.release}")
    out.print(f"up {answer.uptime_s:.0f} s, start number {answer.epoch}, process {answer.pid}")
    out.print("processes   " + ", ".join(f"{name} {pid}" for name, pid in sorted(answer.processes.items())))
    out.print("listening   " + (", ".join(answer.addresses) or "nowhere"))
    out.print("connected   " + (", ".join(map(short_peer, answer.connected)) or "to nobody"))
    out.print("experts     " + (", ".join(answer.experts) or "none"))
    out.print(f"journal     {answer.stored_position} stored, {answer.position - answer.stored_position} on their way")
    out.print(f"in flight   {answer.requests_in_flight} asked here, {answer.serving} served here")
    out.print(f"broker      {answer.broker_url}")
    out.print(f"gateway     {answer.gateway_url + '/v1' if answer.gateway_url else 'off'}")
    for notice in answer.notices:
        out.print(f"notice      {notice}", style="yellow", markup=False)
