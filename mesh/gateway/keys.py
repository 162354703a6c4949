"""API keys: only their hashes are kept, each with what it may use up.

A key is 32 random bytes, so that one SHA-256 is as good as a slow hash: there is nothing to guess.
"""

import json
import os
import secrets
from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mesh.clock import Clock
from mesh.errors import ConfigError
from mesh.gateway.problems import Problem

log = structlog.get_logger(__name__)
PREFIX = "mesh-"
_MINUTE_S, _DAY_S = 60.0, 86_400.0
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Key(BaseModel):
    """A key as it is kept. Times are Unix seconds; 0 means no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: float
    expires_at: float = Field(default=0.0, ge=0)
    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_day: int = Field(default=0, ge=0)


class KeyFile(BaseModel):
    """``gateway-keys.json`` in the node's home, mode 0600."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()


def load_keys(path: Path) -> tuple[Key, ...]:
    """The keys in the file; none where there is no file. Raises ConfigError for one that is not as it should be."""
    try:
        return KeyFile.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise ConfigError(f"the API keys in {path} are not readable: {error}", remedy="Make them anew.") from error


def save_keys(path: Path, keys: Iterable[Key]) -> None:
    """Replace the file in one step."""
    text = json.dumps(KeyFile(keys=tuple(keys)).model_dump(), indent=2)
    beside = path.with_suffix(".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def new_secret() -> str:
    """What the client has to know, and nobody else does."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return sha256(secret.encode("utf-8", "replace")).hexdigest()


class Spent:
    """What one key has used up: requests of the last minute, tokens of the last day. In memory only."""

    def __init__(self) -> None:
        self.requests: deque[float] = deque()
        self.tokens: deque[tuple[float, int]] = deque()

    def forget(self, now: float) -> None:
        """Drop what is over."""
        while self.requests and self.requests[0] <= now - _MINUTE_S:
            self.requests.popleft()
        while self.tokens and self.tokens[0][0] <= now - _DAY_S:
            self.tokens.popleft()


class KeyRing:
    """Who may ask, and how much. Follows the file: keys that are added or revoked count at once.

    While the file cannot be read the keys that it last held stay in force. ``required``: nobody may ask without a key,
    not even when there are none.
    """

    def __init__(self, path: Path, clock: Clock, *, required: bool = False) -> None:
        self._path = path
        self._clock = clock
        self._required = required
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._spent: dict[str, Spent] = {}

    def admit(self, authorization: str) -> str:
        """The caller's name for the journal. Raises Problem: 401 without a valid key, 429 over its quota.

        Where there are no keys at all and none is required, everybody who reaches the port may ask.
        """
        self._follow()
        if not self._keys and not self._required:
            return "gateway"
        scheme, _, secret = authorization.partition(" ")
        key = self._keys.get(hash_of(secret.strip())) if scheme.lower() == "bearer" else None
        now = self._clock.now()
        if key is None:
            said = "The API key is not known here." if authorization else "There is no API key in the request."
            raise Problem(
                401, f"{said} `mesh keys add` makes one.", kind="authentication_error", code="invalid_api_key"
            )
        if 0 < key.expires_at <= now:
            raise Problem(
                401, f"The API key {key.name} has expired.", kind="authentication_error", code="expired_api_key"
            )
        self._count(key, now)
        return f"key:{key.name}"

    def used(self, caller: str, tokens: int) -> None:
        """An answer for ``caller`` took so many tokens."""
        if tokens > 0 and (spent := self._spent.get(caller.removeprefix("key:"))) is not None:
            spent.tokens.append((self._clock.now(), tokens))

    def _count(self, key: Key, now: float) -> None:
        spent = self._spent.setdefault(key.name, Spent())
        spent.forget(now)
        if key.requests_per_minute and len(spent.requests) >= key.requests_per_minute:
            wait_s = spent.requests[0] + _MINUTE_S - now
            raise _over(f"{key.requests_per_minute} requests per minute", key, wait_s)
        used = sum(tokens for _, tokens in spent.tokens)
        if key.tokens_per_day and used >= key.tokens_per_day:
            wait_s = spent.tokens[0][0] + _DAY_S - now
            raise _over(f"{key.tokens_per_day} tokens per day ({used} were used)", key, wait_s)
        spent.requests.append(now)

    def _follow(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:
            stamp = (0, 0, 0)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = {key.hash: key for key in load_keys(self._path)}
        except ConfigError as error:
            log.error("the API keys cannot be read; those of before stay in force", error=str(error))  # noqa: TRY400
            self._required = True


def _over(limit: str, key: Key, wait_s: float) -> Problem:
    message = f"The API key {key.name} is at its limit of {limit}."
    return Problem(429, message, kind="rate_limit_error", code="rate_limit_exceeded", retry_after_s=wait_s)
