"""What a service that wants to be an expert needs to connect, and a complete one to begin with."""

from dataclasses import dataclass

from mesh.errors import BrokerError
from mesh.events.readers import credentials_file, load_credentials
from mesh.home import Home


@dataclass(frozen=True)
class WorkerCredentials:
    """How a NATS service connects. It may listen anywhere in its account, and reply."""

    url: str
    user: str
    password: str

    def snippet(self) -> str:
        """A worker in Python, complete but for ``pip install nats-py``."""
        return _SNIPPET.format(**{name: repr(getattr(self, name)) for name in self.__dataclass_fields__})


def worker_instructions(home: Home) -> WorkerCredentials:
    """What `mesh creds worker` prints. Raises FileNotFoundError when no node has run in ``home``, and BrokerError."""
    if not credentials_file(home, "worker").exists() and credentials_file(home, "node").exists():
        raise BrokerError(
            f"the broker at {load_credentials(home, 'node').url} has no account for workers",
            remedy="Make one there, and set `external = true` and `credentials` in [workers].",
        )
    address = load_credentials(home, "worker")
    return WorkerCredentials(address.url, address.user, address.password)


_SNIPPET = '''\
"""An expert of a mesh, as a NATS service: it reverses texts. docs/experts.md says what comes and what goes.

pip install nats-py. The node finds it within seconds, and lets it go when it ends.
"""

import asyncio
import json

import nats
from nats.micro import add_service


async def answer(request):
    call = json.loads(request.data)
    if not call["content"]:
        await request.respond_error("400", "there is nothing to reverse")
        return
    await request.respond(call["content"][::-1].encode())


async def main():
    client = await nats.connect({url}, user={user}, password={password})
    metadata = {{"mesh.domains": "language", "mesh.model": "reverser 1", "mesh.concurrency": "4"}}
    service = await add_service(client, name="reverser", version="1.0.0", metadata=metadata)
    await service.add_endpoint(name="answer", subject="reverser.answer", handler=answer)
    await asyncio.Event().wait()


asyncio.run(main())
'''
