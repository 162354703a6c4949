"""Keeping of one request what the policy allows: the text, the text under a key of its own, or nothing but digests."""

import secrets
from collections.abc import Callable

import msgspec
import structlog

from mesh.clock import Clock
from mesh.config import ContentConfig, ContentPolicy, RoutingConfig
from mesh.experts.answers import digest
from mesh.experts.calls import Call
from mesh.experts.content import KEY_BYTES, NONCE_BYTES, fits, keyed_digest, seal, strictest
from mesh.experts.content_keys import ContentKey, ContentKeys, MemoryContentKeys
from mesh.experts.queries import AUTO

log = structlog.get_logger(__name__)


class Kept(msgspec.Struct, frozen=True):
    """What an event has of a text; at most one of the two is not empty."""

    text: str = ""
    sealed: str = ""


class Keeping:
    """What is kept of one request. ``key`` is empty unless the policy is ``sealed``."""

    def __init__(
        self,
        request: str,
        policy: ContentPolicy,
        key: bytes = b"",
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.policy: ContentPolicy = policy
        self._request = request
        self._key = key
        self._random = random

    def kept(self, text: str, part: str) -> Kept:
        """The ``part`` of the request (``content``, ``answer``, ``served``) as the journal may have it."""
        if self.policy == "digest" or not text or not fits(text):
            return Kept()
        if self.policy == "full":
            return Kept(text=text)
        return Kept(sealed=self.seal(text, part))

    def seal(self, text: str, part: str) -> str:
        """The text, sealed; only where the policy is ``sealed``."""
        return seal(text, self._key, self._random(NONCE_BYTES), request=self._request, part=part)

    def digest(self, text: str) -> str:
        """The digest of what was asked; keyed where the text can be forgotten, so that no guess confirms it then."""
        return keyed_digest(text, self._key) if self._key else digest(text)


class ContentKeeper:
    """Decides what is kept, and makes the keys. ``random`` gives as many random bytes as it is told."""

    def __init__(
        self,
        routing: RoutingConfig,
        content: ContentConfig,
        keys: ContentKeys,
        clock: Clock,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._routing = routing
        self._content = content
        self._keys = keys
        self._clock = clock
        self._random = random

    @classmethod
    def in_memory(cls, routing: RoutingConfig, clock: Clock) -> "ContentKeeper":
        """One whose keys end with the process."""
        return cls(routing, ContentConfig(), MemoryContentKeys(), clock)

    def policy(self, domain: str, wish: ContentPolicy | None = None) -> ContentPolicy:
        """What holds for a request of our own: that of its domain, or what the caller wishes if that is stricter.

        While the domain is not known, it may be any.
        """
        default, domains = self._routing.content, self._routing.domains
        if domain in ("", AUTO):
            configured = strictest(default, *(choices.content or default for choices in domains.values()))
        else:
            configured = (domains[domain].content if domain in domains else None) or default
        return configured if wish is None else strictest(configured, wish)

    def policy_served(self, wish: ContentPolicy | None = None) -> ContentPolicy:
        """What holds for a request of another node, which may wish that less is kept."""
        return self._content.served if wish is None else strictest(self._content.served, wish)

    def begin(self, request: str, caller: str, policy: ContentPolicy) -> Keeping:
        """Keep this request so. Where its key cannot be stored, nothing but digests is kept."""
        if policy != "sealed":
            return Keeping(request, policy)
        key = self._random(KEY_BYTES)
        try:
            self._keys.keep(ContentKey(request=request, caller=caller, at=self._clock.now(), key=key))
            return Keeping(request, policy, key, self._random)
        except OSError:
            log.exception("no key, so the text is not kept", request=request)
            return Keeping(request, "digest")


def served_texts(keeping: Keeping, call: Call, answer: str) -> dict[str, str]:
    """The fields of `RequestServed` that say what is kept of a call and its answer (none when it is our own)."""
    asked = call.content + call.chat
    if keeping.policy == "full":
        texts = {"content": keeping.kept(asked, "content").text, "answer": keeping.kept(answer, "answer").text}
        return {"kept": keeping.policy, **texts}
    if keeping.policy == "digest":
        return {"kept": keeping.policy}
    both = [text if fits(text) else "" for text in (asked, answer)]
    return {"kept": keeping.policy, "sealed": keeping.seal(msgspec.json.encode(both).decode(), "served")}
