"""An expert, a request and its history: the same in WebAssembly (`node run.mjs BUNDLE ask.py`) as anywhere else."""

import asyncio
import codecs
import json
import sys

from mesh.embedded import LocalMesh


async def main(_files: dict[str, str]) -> str:
    """Ask, and tell what came of it as JSON."""
    mesh = LocalMesh(name="browser")

    @mesh.expert("rot13", domains=["language"])
    def rot13(text: str) -> str:
        return codecs.encode(text, "rot13")

    async with mesh:
        outcome = await mesh.ask("Uryyb, Jnfz", domain="language")
        why = mesh.why(outcome.request)
    told = {
        "text": outcome.text,
        "strategy": outcome.strategy,
        "recomputed": [decision.recomputed for decision in why.decisions],
        "whole": mesh.verify().ok,
        "events": len(mesh.records),
    }
    return json.dumps(told)


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(main({})) + "\n")
