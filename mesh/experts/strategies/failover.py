"""The next expert where one fails or is late: what `local_only` and `best_peer` share."""

from mesh.experts.attempt import Answered
from mesh.experts.attempts import Attempts
from mesh.experts.calls import AttemptFailed
from mesh.experts.known import Target
from mesh.experts.routing import RoutingDecision
from mesh.experts.strategies.race import Race
from mesh.experts.strategies.strategy import nobody


class Failover:
    """Asks until somebody answers. ``tried`` and ``last`` tell afterwards how it went.

    ``falls_back`` is why, where this is less than what was asked for: it is recorded once there is somebody to ask.
    """

    def __init__(
        self, attempts: Attempts, *, scope: str = "any", tried: tuple[Target, ...] = (), falls_back: str = ""
    ) -> None:
        self._attempts = attempts
        self._scope = scope
        self._falls_back = falls_back
        self.tried = tried
        self.last: AttemptFailed | None = None
        self.decision: RoutingDecision | None = None

    async def answer(self, tries: int) -> Answered | None:
        """The first answer among ``tries`` attempts, or None when they, or the candidates, ran out.

        Raises QueryFailed when a failure rules out asking anybody else.
        """
        for _ in range(tries):
            self.decision = self._attempts.route(scope=self._scope, excluded=self.tried)
            if not self.decision.chosen:
                return None
            if self._falls_back:
                self._attempts.fell_back(self._scope, self._falls_back)
                self._falls_back = ""
            race = Race(self._attempts, self.decision, self.tried)
            try:
                return await race.run()
            except AttemptFailed as failure:
                self.last = failure
                self.tried += race.asked
                if not self._attempts.may_retry(failure):
                    raise self._attempts.failed(failure) from failure
        return None

    def failure(self) -> Exception:
        """Why there was no answer."""
        if self.last is not None:
            return self._attempts.failed(self.last)
        assert self.decision is not None
        return nobody(self._attempts, self.decision)
