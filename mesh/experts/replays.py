"""One request has one answer: who asks the same again under the same id gets the same words.

An expert that draws its words at random would otherwise sign two different answers to one request, which is how liars
are known (`mesh.experts.equivocation`), and anybody could make it do so. For the same reason an id that was answered
is not taken for another question.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import msgspec

from mesh.experts.answers import tally
from mesh.experts.calls import Answer, AttemptFailed, Call

# What is kept of the latest answers, over all callers; of longer ones, and of those that are not held, only that they
# were given.
MAX_ANSWERS = 4096
MAX_BYTES = 16 << 20
MAX_KEPT = 256 << 10
_Key = tuple[str, str, str]


class Said:
    """What an expert said to one request: nothing yet, or its ``answer``. ``question`` is a digest."""

    def __init__(self, key: _Key, question: bytes) -> None:
        self.key = key
        self.question = question
        self.answer: Answer | None = None
        self.given = False
        self.size = 0
        self.turn = asyncio.Lock()
        self.waiting = 0


class Replays:
    """The latest answers of this node's experts, by caller, request and expert."""

    def __init__(self, *, max_answers: int = MAX_ANSWERS, max_bytes: int = MAX_BYTES) -> None:
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._asked: dict[_Key, Said] = {}
        self._given: OrderedDict[_Key, Said] = OrderedDict()
        self._bytes = 0

    @asynccontextmanager
    async def turn(self, caller: str, call: Call) -> AsyncIterator[Said]:
        """What was said before, once whoever asks the same at this moment is done; to be told what is said now.

        Raises AttemptFailed: ``invalid`` for an id that was used for another question, ``expired``.
        """
        said = self._of((caller, call.request, call.expert), _digest(call))
        said.waiting += 1
        try:
            await self._wait(said, call)
            try:
                if said.given and said.answer is None:
                    raise AttemptFailed("failed", "it was answered before, at length, and is not kept")
                yield said
            finally:
                said.turn.release()
        finally:
            said.waiting -= 1
            if not said.waiting and self._asked.get(said.key) is said:  # it failed, or was cancelled
                del self._asked[said.key]

    def keep(self, said: Said, answer: Answer) -> None:
        """It was answered so."""
        if said.given:
            return
        size = tally(answer).size
        said.given = True
        if size <= MAX_KEPT and answer.passed is None:
            said.answer, said.size = answer, size
            self._bytes += size
        self._given[said.key] = self._asked.pop(said.key)
        while len(self._given) > self._max_answers or self._bytes > self._max_bytes:
            _, oldest = self._given.popitem(last=False)
            self._bytes -= oldest.size

    def _of(self, key: _Key, question: bytes) -> Said:
        said = self._given.get(key)
        if said is None:
            said = self._asked.setdefault(key, Said(key, question))
        else:
            self._given.move_to_end(key)
        if said.question != question:
            raise AttemptFailed("invalid", "this request id was used for another question")
        return said

    async def _wait(self, said: Said, call: Call) -> None:
        try:
            async with asyncio.timeout(call.timeout_ms / 1000):
                await said.turn.acquire()
        except TimeoutError:
            raise AttemptFailed("expired", "the same request is still being worked on") from None


def _digest(call: Call) -> bytes:
    return sha256(msgspec.json.encode((call.content, call.chat, call.task, call.options), order="sorted")).digest()
