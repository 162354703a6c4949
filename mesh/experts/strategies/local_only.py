"""``local_only``: this node's own experts, whatever the mesh offers."""

from mesh.experts.attempts import Attempts
from mesh.experts.strategies.failover import Failover
from mesh.experts.strategies.strategy import Result, result_of


class LocalOnly:
    """Nothing leaves the machine."""

    name = "local_only"

    async def run(self, attempts: Attempts) -> Result:
        """See `Strategy.run`."""
        failover = Failover(attempts, scope="local")
        answered = await failover.answer(attempts.plan.attempts)
        if answered is None:
            raise failover.failure()
        return result_of(answered)
