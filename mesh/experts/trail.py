"""The first and the last fact of a request, with as much of its content as the configuration lets the journal keep."""

from mesh.events.vocabulary.requests import RequestCompleted, RequestReceived
from mesh.experts.answers import tally
from mesh.experts.attempts import Attempts
from mesh.experts.keeping import Keeping
from mesh.experts.plan import Plan, is_open
from mesh.experts.queries import AUTO
from mesh.experts.strategies import Result


def received_fact(plan: Plan, keeping: Keeping) -> RequestReceived:
    """The request as it was taken in."""
    asked = plan.content + plan.chat
    kept = keeping.kept(asked, "content")
    return RequestReceived(
        request=plan.request,
        caller=plan.caller,
        domain=AUTO if is_open(plan) else plan.domain,
        strategy=plan.strategy,
        policy=plan.policy,
        fan_out=plan.fan_out,
        timeout_ms=int(plan.timeout_s * 1000),
        content_digest=keeping.digest(asked),
        content_bytes=plan.content_bytes,
        content=kept.text,
        kept=keeping.policy,
        sealed=kept.sealed,
    )


def completed_fact(attempts: Attempts, result: Result, keeping: Keeping) -> RequestCompleted:
    """The request as it was answered."""
    kept, all_of_it = keeping.kept(result.text, "answer"), tally(result)
    return RequestCompleted(
        request=attempts.plan.request,
        strategy=attempts.plan.strategy,
        attempts=attempts.count,
        latency_ms=attempts.elapsed_ms,
        answer_digest=all_of_it.digest,
        answer_bytes=all_of_it.size,
        winners=tuple(str(winner) for winner in result.winners),
        agreement=result.agreement,
        votes=result.votes,
        failures=tuple(attempts.failures),
        fallback=result.fallback,
        count=result.count,
        cached_from=result.cached_from,
        answer=kept.text,
        sealed=kept.sealed,
        parts=result.parts,
    )
