"""What a client of the node needs to connect, kept in files; and what to tell the owner of an external tool."""

from dataclasses import dataclass
from pathlib import Path

from mesh.errors import BrokerError
from mesh.events.broker import BrokerAddress, Role
from mesh.events.broker_settings import DIRECT_GET, READER_INFO
from mesh.events.subjects import ALL, STREAM
from mesh.home import Home

Credentials = BrokerAddress


def credentials_file(home: Home, role: Role) -> Path:
    """Where the address and password of a role are kept, mode 0600."""
    return home.credentials / f"{role}.json"


def load_credentials(home: Home, role: Role) -> Credentials:
    """How to connect as ``role``. Raises FileNotFoundError when no node has run in ``home``, BrokerError if damaged."""
    return BrokerAddress.load(credentials_file(home, role))


@dataclass(frozen=True)
class ReaderCredentials:
    """All that an external tool needs to follow and read the journal, in any language that has a NATS client.

    ``live`` is the subject to subscribe to. History is read by a request to ``history`` with
    ``{"seq": first, "batch": n}``; the replies end with one whose headers hold ``Status``. A request to ``info``
    tells the last position as ``state.last_seq``.
    """

    url: str
    user: str
    password: str
    live: str
    stream: str
    history: str
    info: str

    def snippet(self) -> str:
        """A Python script, complete but for ``pip install nats-py``, that reads from any position and follows."""
        return _SNIPPET.format(**{name: repr(getattr(self, name)) for name in self.__dataclass_fields__})


def reader_instructions(home: Home) -> ReaderCredentials:
    """What `mesh creds reader` prints. Raises as `load_credentials`, and BrokerError where the server is not ours."""
    if not credentials_file(home, "reader").exists() and credentials_file(home, "node").exists():
        raise BrokerError(
            f"the broker at {load_credentials(home, 'node').url} is not this node's own: it has no accounts to give",
            remedy="Ask whoever runs it for an account that may read, or let the node run its own (empty `url`).",
        )
    address = load_credentials(home, "reader")
    return ReaderCredentials(address.url, address.user, address.password, ALL, STREAM, DIRECT_GET, READER_INFO)


_SNIPPET = '''\
"""Reads the journal of a mesh node from POSITION (the first argument, default 1), then follows it.

pip install nats-py. These credentials can publish, delete and purge nothing.
"""

import asyncio
import json
import sys

import nats

POSITION = int(sys.argv[1]) if len(sys.argv) > 1 else 1


async def stored(client, position, batch=500):
    """The events from `position` on that are stored by now, at most `batch`."""
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    try:
        await client.publish({history}, json.dumps({{"seq": position, "batch": batch}}).encode(), reply=inbox)
        while True:
            message = await replies.next_msg(timeout=5)
            if message.headers is None or "Status" in message.headers:
                return
            yield int(message.headers["Nats-Sequence"]), message.headers["Nats-Subject"], json.loads(message.data)
    finally:
        await replies.unsubscribe()


async def main():
    client = await nats.connect({url}, user={user}, password={password})
    news = asyncio.Event()

    async def ring(message):  # live messages are announced here; what is stored is read in order, without gaps
        news.set()

    await client.subscribe({live}, cb=ring)
    position = POSITION
    while True:
        news.clear()
        before = position
        async for number, subject, event in stored(client, position):
            print(number, subject, json.dumps(event), flush=True)
            position = number + 1
        if position == before:
            try:
                await asyncio.wait_for(news.wait(), timeout=1)
            except asyncio.TimeoutError:
                pass


asyncio.run(main())
'''
