"""The first and the last fact of a request, with as much of its content as the configuration lets the journal keep."""

from msgspec import json

from mesh.config import RoutingConfig
from mesh.events.vocabulary.requests import RequestCompleted, RequestReceived
from mesh.experts.answers import digest
from mesh.experts.attempts import Attempts
from mesh.experts.plan import Plan
from mesh.experts.strategies import Result

# What is kept of one prompt or answer under the policy ``full``; longer ones leave their digest only.
MAX_KEPT_BYTES = 128 * 1024


def received_fact(plan: Plan, config: RoutingConfig) -> RequestReceived:
    """The request as it was taken in."""
    return RequestReceived(
        request=plan.request,
        caller=plan.caller,
        domain=plan.domain,
        strategy=plan.strategy,
        policy=plan.policy,
        fan_out=plan.fan_out,
        timeout_ms=int(plan.timeout_s * 1000),
        content_digest=digest(plan.content + plan.chat),
        content_bytes=plan.content_bytes,
        content=_kept(plan.content + plan.chat, config),
    )


def completed_fact(attempts: Attempts, result: Result, config: RoutingConfig) -> RequestCompleted:
    """The request as it was answered."""
    return RequestCompleted(
        request=attempts.plan.request,
        strategy=attempts.plan.strategy,
        attempts=attempts.count,
        latency_ms=attempts.elapsed_ms,
        answer_digest=digest(result.text),
        answer_bytes=len(result.text.encode()),
        winners=tuple(str(winner) for winner in result.winners),
        agreement=result.agreement,
        votes=result.votes,
        failures=tuple(attempts.failures),
        fallback=result.fallback,
        cached_from=result.cached_from,
        answer=_kept(result.text, config),
    )


def _kept(text: str, config: RoutingConfig) -> str:
    return text if config.content == "full" and len(json.encode(text)) <= MAX_KEPT_BYTES else ""
