"""A client of OpenAI's chat completions over one kept connection, that costs as little time as it can."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

WITHIN_S = 60.0
_PATH = "/v1/chat/completions"
_HEADERS = {"content-type": "application/json"}


class ChatClient:
    """Asks one server, one question at a time. Blocks."""

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self._connection = HTTPConnection(str(parts.hostname), parts.port, timeout=WITHIN_S)
        self._model = model

    def close(self) -> None:
        self._connection.close()

    def ask(self, question: str) -> float:
        """Milliseconds until the whole answer was here, which must be the question."""
        body = self._body(question, stream=False)
        started = time.perf_counter()
        data = self._posted(body).read()
        took = (time.perf_counter() - started) * 1000
        assert json.loads(data)["choices"][0]["message"]["content"] == question, data
        return took

    def pieces(self, question: str) -> list[tuple[str, int]]:
        """Each piece of text, with the nanosecond of the monotonic clock at which it was here."""
        response = self._posted(self._body(question, stream=True))
        return [(piece, at) for data, at in _events(response) if (piece := _text_of(data))]

    def _posted(self, body: bytes) -> HTTPResponse:
        self._connection.request("POST", _PATH, body, _HEADERS)
        response = self._connection.getresponse()
        assert response.status == 200, (response.status, response.read())
        return response

    def _body(self, question: str, *, stream: bool) -> bytes:
        messages = [{"role": "user", "content": question}]
        return json.dumps({"model": self._model, "messages": messages, "stream": stream}).encode()


def _events(response: HTTPResponse) -> Iterator[tuple[bytes, int]]:
    with closing(response):
        while line := response.readline():
            if line.startswith(b"data: "):
                yield line[6:].strip(), time.monotonic_ns()


def _text_of(data: bytes) -> str:
    if data == b"[DONE]":
        return ""
    event = json.loads(data)
    assert "error" not in event, event
    choices = event["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""
