"""Thirty questions over six domains, and who is there to answer them."""

from typing import NamedTuple


class Question(NamedTuple):
    """What is asked, in which domain, and the options that keep a small model brief."""

    domain: str
    content: str
    options: dict[str, int]


_BRIEF = {"max_tokens": 32}


def _all(domain: str, *contents: str, options: dict[str, int] | None = None) -> tuple[Question, ...]:
    return tuple(Question(domain, content, options or {}) for content in contents)


QUESTIONS: tuple[Question, ...] = (
    *_all(
        "mathematics",
        "What is 17*23?",
        "solve x^2 - 5x + 6 = 0",
        "derivative of x*sin(x)",
        "integrate x^2 from 0 to 3",
        "is 2147483647 prime?",
    ),
    *_all(
        "coding",
        "def add(a,b): return a+b",
        "import os\ndef f(x):\n  unused = 1\n  return x",
        "class Point:\n  def __init__(self,x,y):\n    self.x=x; self.y=y",
        "for i in range(3) print(i)",
        "def fib(n):\n    return n if n<2 else fib(n-1)+fib(n-2)",
    ),
    *_all(
        "tool_use",
        "convert 26.2 miles to km",
        "days between 2024-01-01 and 2024-03-01",
        "what weekday is 2026-11-22",
        "add 90 days to 2026-01-15",
        "convert 100 degF to degC",
    ),
    *_all(
        "context",
        "What is an expert?",
        "How does the journal show tampering?",
        "What happens when a peer fails?",
        "How are projections rebuilt?",
        "How can an outside tool follow the events?",
    ),
    *_all(
        "language",
        "Say hello in French.",
        "Name three colours.",
        "Complete: the cat sat on the",
        "Give a synonym of 'quick'.",
        "Write one sentence about the sea.",
        options=_BRIEF,
    ),
    *_all(
        "reasoning",
        "If all birds fly and a robin is a bird, does a robin fly?",
        "Which is heavier, a kilo of iron or a kilo of feathers?",
        "What comes next: 2, 4, 6, 8?",
        "Tom is taller than Ann, Ann than Bo. Who is shortest?",
        "Is it day or night when the sun shines?",
        options=_BRIEF,
    ),
)

# Long enough to be killed in the middle of.
LONG_QUESTION = Question("language", "Tell me a long story about a lighthouse keeper.", {"max_tokens": 240})
CONSENSUS_QUESTION = Question("mathematics", "What is 2**61 - 1?", {})
