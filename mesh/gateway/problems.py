"""Every error of the gateway in OpenAI's shape, with the HTTP status that its clients understand. Pure."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mesh.errors import MeshError

# status, OpenAI's type of error
_KINDS: dict[str, tuple[int, str]] = {
    "invalid": (400, "invalid_request_error"),
    "model_not_found": (404, "invalid_request_error"),
    "lacks_feature": (404, "invalid_request_error"),
    "overloaded": (429, "rate_limit_error"),
    "stopping": (503, "server_error"),
    "no_candidates": (503, "server_error"),
    "unavailable": (503, "server_error"),
    "expired": (504, "timeout_error"),
    "cancelled": (499, "cancelled"),
    "no_quorum": (502, "server_error"),
    "broken_stream": (502, "server_error"),
    "too_large": (502, "server_error"),
    "disconnected": (502, "server_error"),
    "protocol": (502, "server_error"),
    "unknown_expert": (502, "server_error"),
    "failed": (502, "server_error"),
}
_MAX_PROBLEMS = 5


class Problem(Exception):
    """What a client is told: ``status``, and the body's ``error``. ``request`` is the id that ``mesh why`` takes."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str = "",
        param: str = "",
        request: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.request = request
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param or None, "code": self.code or None}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        headers = {"x-request-id": self.request} if self.request else {}
        if self.retry_after_s:
            headers["retry-after"] = str(max(1, round(self.retry_after_s)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.status in (408, 413):  # what is left of the body is not waited for
            headers["connection"] = "close"
        return headers


def problem_of(error: MeshError) -> Problem:
    """What a client is told of a request that was rejected or has failed."""
    kind = str(getattr(error, "kind", "failed"))
    status, openai = _KINDS.get(kind, (502, "server_error"))
    request = str(getattr(error, "request", ""))
    retry_s = float(getattr(error, "retry_after_s", 0.0)) or 1.0 if status == 429 else 0.0
    return Problem(status, str(error), kind=openai, code=kind, request=request, retry_after_s=retry_s)


def invalid_body(error: ValidationError) -> Problem:
    """What a client is told of a body that is not as it should be: each field, its value, and what is allowed."""
    found = error.errors(include_url=False)
    lines = [_said(each) for each in found[:_MAX_PROBLEMS]]
    return Problem(400, "; ".join(lines), code="invalid", param=_path(found[0]["loc"]))


def _said(problem: ErrorDetails) -> str:
    path = _path(problem["loc"])
    if problem["type"] == "missing":
        return f"{path} is missing"
    return f"{path} = {_shown(problem['input'])}: {problem['msg']}"


def _path(parts: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in parts) or "body"


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
