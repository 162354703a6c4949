"""Asking a NATS server whether JetStream answers."""

import json

from mesh.errors import BrokerError
from mesh.events.broker import BrokerAddress
from mesh.events.connection import connect

_API_INFO = "$JS.API.INFO"


async def probe(address: BrokerAddress, *, timeout: float = 5.0) -> None:
    """Connect, log in and have JetStream answer. Raises BrokerError that says what did not work."""
    connection = await connect(address, name="mesh probe", timeout=timeout)
    try:
        reply = await connection.request(_API_INFO, timeout=timeout)
        if reply.status:
            raise BrokerError(
                f"the NATS server at {address.url} answers, but has no JetStream for this user",
                remedy="Enable JetStream for the account, or let the node run its own server (empty `url`).",
            )
        error = json.loads(reply.payload).get("error")
        if error:
            raise BrokerError(f"JetStream at {address.url} is not available: {error.get('description', error)}")
    finally:
        connection.close()
