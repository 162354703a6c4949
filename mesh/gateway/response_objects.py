"""Outcomes of the mesh as OpenAI's ``response`` and the events of its stream. Pure."""

from typing import Any

from mesh.experts.queries import Outcome
from mesh.gateway.answers import message_of, provenance, usage

Json = dict[str, Any]


class ResponseObject:
    """One response; events are numbered as they are made."""

    def __init__(self, model: str, created: int) -> None:
        self._model = model
        self._created = created
        self._number = 0
        self._text: list[str] = []

    def whole(self, outcome: Outcome) -> Json:
        """The object ``response`` when it is complete."""
        return self._response(outcome.request, "completed", self._output(outcome), outcome)

    def begin(self, request: str) -> list[Json]:
        """The events before the text."""
        response = self._response(request, "in_progress", [], None)
        item = self._message(request, "in_progress", [])
        part: Json = {"type": "output_text", "text": "", "annotations": []}
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place(request), part=part),
        ]

    def piece(self, request: str, text: str) -> list[Json]:
        """The event of a piece of text."""
        self._text.append(text)
        return [self._event("response.output_text.delta", **self._place(request), delta=text, logprobs=[])]

    def end(self, outcome: Outcome) -> list[Json]:
        """The events after the text."""
        request, text = outcome.request, "".join(self._text)
        part = {"type": "output_text", "text": text, "annotations": []}
        events = [
            self._event("response.output_text.done", **self._place(request), text=text, logprobs=[]),
            self._event("response.content_part.done", **self._place(request), part=part),
            self._event("response.output_item.done", output_index=0, item=self._message(request, "completed", [part])),
        ]
        for index, call in enumerate(self._calls(outcome), start=1):
            place = {"output_index": index, "item_id": call["id"]}
            events += [
                self._event("response.output_item.added", output_index=index, item={**call, "arguments": ""}),
                self._event("response.function_call_arguments.delta", **place, delta=call["arguments"]),
                self._event(
                    "response.function_call_arguments.done", **place, name=call["name"], arguments=call["arguments"]
                ),
                self._event("response.output_item.done", output_index=index, item=call),
            ]
        return [*events, self._event("response.completed", response=self.whole(outcome))]

    def failed(self, request: str, code: str, message: str) -> Json:
        """The event of a stream that broke."""
        response = self._response(request, "failed", [], None)
        return self._event("response.failed", response={**response, "error": {"code": code, "message": message}})

    def _output(self, outcome: Outcome) -> list[Json]:
        content = message_of(outcome).get("content")
        part: Json = {"type": "output_text", "text": content or "", "annotations": []}
        said = [self._message(outcome.request, "completed", [part])] if content or outcome.format == "text" else []
        return [*said, *self._calls(outcome)]

    def _calls(self, outcome: Outcome) -> list[Json]:
        return [
            {
                "id": f"fc_{outcome.request}_{index}",
                "type": "function_call",
                "status": "completed",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            }
            for index, call in enumerate(message_of(outcome).get("tool_calls") or [])
        ]

    def _message(self, request: str, status: str, content: list[Json]) -> Json:
        return {"id": f"msg_{request}", "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, request: str, status: str, output: list[Json], outcome: Outcome | None) -> Json:
        counted = usage(outcome) if outcome is not None else None
        tokens = counted and {
            "input_tokens": counted["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counted["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted["total_tokens"],
        }
        return {
            "id": f"resp_{request}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self._model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": tokens,
            **({"mesh": provenance(outcome)} if outcome is not None else {}),
        }

    def _place(self, request: str) -> Json:
        return {"item_id": f"msg_{request}", "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: object) -> Json:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event
