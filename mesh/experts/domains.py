"""Which domain a question belongs to, where the caller did not say: by marks that each domain leaves. Pure.

A first, explainable guess, and what is left where there is no embedding (`mesh.experts.classifier`).
"""

import re
from collections.abc import Collection, Mapping

import msgspec

# Only the beginning is looked at: what is asked for is said early, and the work stays bounded.
_LOOKED_AT = 4000

_MARKS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "mathematics": (
        (r"\d\s*[-+*/^×÷=]\s*\d", 2.0),
        (r"\b(solve|integrate|differentiate|derivative|integral|equation|factori[sz]e|prime|matrix|polynomial)\b", 2.0),
        (r"\b(sum|product|sqrt|root|logarithm|sin|cos|tan|simplify|calculate|compute|how much is)\b", 1.0),
        (r"\b[xyz]\s*(\^|\*\*)\s*\d", 2.0),
    ),
    "coding": (
        (r"```|\bdef \w+\(|\bclass \w+[:(]|\bimport \w+|=>|\breturn\b|[{};]\s*$", 2.0),
        (r"\b(python|javascript|rust|java|c\+\+|sql|bash|regex|function|code|bug|compile|refactor|lint)\b", 1.5),
        (r"\b(unit test|stack trace|exception|traceback|syntax)\b", 1.5),
    ),
    "tool_use": (
        (r"\bconvert\b.{0,200}\b(to|into|in)\b", 2.0),
        (r"\d\s*(km|mi|miles?|kg|lb|pounds?|celsius|fahrenheit|°[cf]|inches|feet|litres?|gallons?)\b", 1.5),
        (r"\b(what (day|date|time)|how many days|days (until|between)|weekday|next \w+day|json)\b", 1.5),
    ),
    "context": (
        (r"\b(according to|in the (document|text|notes|manual|handbook|docs?)|which (document|file|passage))\b", 2.0),
        (r"\b(find|look up|search|retrieve|quote)\b", 1.0),
    ),
    "reasoning": (
        (r"\b(why|therefore|because|suppose|assume|if all|prove|deduce|infer|logic|riddle|puzzle)\b", 1.0),
        (r"\b(step by step|what follows|compare|pros and cons|which is (better|larger|older))\b", 1.5),
    ),
    "language": (
        (r"\b(translate|summari[sz]e|rewrite|paraphrase|grammar|spelling|poem|story|essay|letter|email)\b", 2.0),
        (r"\b(write|describe|explain|tell me about|say)\b", 0.5),
    ),
}
_COMPILED = {
    domain: tuple((re.compile(pattern, re.IGNORECASE | re.MULTILINE), weight) for pattern, weight in marks)
    for domain, marks in _MARKS.items()
}


class Classified(msgspec.Struct, frozen=True, kw_only=True):
    """A domain, and where it came from: ``caller``, ``expert``, ``task``, ``keywords`` or ``default``.

    ``scores`` is what the marks of each domain weigh, where they were looked for.
    """

    domain: str
    by: str
    scores: dict[str, float] = {}


def classify(content: str, served: Collection[str], default: str) -> Classified:
    """The domain among those ``served`` whose marks weigh most; ``default`` where there are none at all."""
    text = content[:_LOOKED_AT]
    scores = {domain: _score(text, domain) for domain in _COMPILED if domain in served}
    best = max(scores, key=lambda domain: (scores[domain], domain), default=default)
    if scores.get(best, 0.0) > 0:
        return Classified(domain=best, by="keywords", scores=scores)
    return Classified(domain=default, by="default", scores=scores)


def _score(text: str, domain: str) -> float:
    return sum(weight for mark, weight in _COMPILED[domain] if mark.search(text))
