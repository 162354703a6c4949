"""What clients send: the fields of OpenAI's bodies that mean something here. Others are ignored, as its servers do."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    WithJsonSchema,
)

from mesh.experts.chat import MAX_MESSAGES, text_of
from mesh.gateway.schemas import CHAT_MESSAGE, ITEM_SAYS_SOMETHING, PART, SAYS_SOMETHING, one_prompt_in_a_stream

Model = Annotated[str, Field(min_length=1, max_length=256, description="An expert's name, mesh/<domain> or mesh/auto")]


def _whole(value: object) -> object:
    """JSON has one kind of number: 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Tokens = Annotated[int, Field(ge=1, le=1 << 31), BeforeValidator(_whole)]
Few = Annotated[int, Field(ge=0, le=16), BeforeValidator(_whole)]
_Stop = Annotated[str, Field(max_length=256)]
Stop = Annotated[_Stop | Annotated[list[_Stop], Field(max_length=4)] | None, Field(description="Where to stop")]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63), BeforeValidator(_whole)]
Prompt = Annotated[str, Field(min_length=1)]
# Checked by `mesh.experts.chat`, which says more than a type does.
Message = Annotated[dict[str, JsonValue], WithJsonSchema(CHAT_MESSAGE)]
Part = Annotated[dict[str, JsonValue], WithJsonSchema(PART)]


class Body(BaseModel):
    """Types are taken strictly: \"1\" is no number."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class MeshOptions(BaseModel):
    """``mesh``: what OpenAI's API has no word for. Empty or 0: as the node is configured."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    strategy: str = ""
    policy: str = ""
    domain: str = ""
    peer: str = ""
    timeout_s: float = Field(default=0.0, ge=0, le=3600)
    fan_out: Few = 0
    quorum: Few = 0
    faults: Annotated[int, Field(ge=0, le=5), BeforeValidator(_whole)] = 0
    agreement: Literal["", "exact", "normalised", "semantic"] = ""
    threshold: float = Field(default=0.0, ge=0, le=1)
    repeat: Annotated[int, Field(ge=0, le=3), BeforeValidator(_whole)] = 0
    delivery: Literal["", "stream", "whole"] = ""
    cache: Literal["", "on", "off"] = ""
    fallback: Literal["", "off", "auto", "on"] = ""
    split: Literal["", "auto", "always", "never"] = ""
    conversation: str = Field(default="", max_length=256, description="For the policy sticky; default: `user`")
    keep: Literal["full", "sealed", "digest"] | None = None


class Sampling(Body):
    """What a model is told about how to write."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    user: str | None = Field(default=None, max_length=256)
    mesh: MeshOptions = Field(default_factory=MeshOptions)


class StreamOptions(Body):
    """``stream_options``"""

    include_usage: bool = False


class Completion(Sampling):
    """What both kinds of completion share."""

    model: Model
    max_tokens: Tokens | None = None
    stop: Stop = None
    seed: Seed | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[Literal[1], BeforeValidator(_whole)] | None = 1

    @property
    def wants_usage(self) -> bool:
        """Whether the last chunk of a stream tells the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatBody(Completion):
    """``POST /v1/chat/completions``"""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, json_schema_extra=SAYS_SOMETHING)
    max_completion_tokens: Tokens | None = None
    tools: list[dict[str, JsonValue]] | None = None
    tool_choice: JsonValue = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, JsonValue] | None = None


class CompletionBody(Completion):
    """``POST /v1/completions``"""

    model_config = ConfigDict(json_schema_extra=one_prompt_in_a_stream)

    prompt: Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=16)] = Field(
        description="A prompt, or up to 16, each answered by itself"
    )


class InputMessage(Body):
    """``message``"""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @property
    def says_something(self) -> bool:
        """Whether there is any text in it."""
        content: JsonValue = self.content if isinstance(self.content, str) else list(self.content)
        return bool(text_of({"content": content}))


class FunctionCall(Body):
    """``function_call``: what an expert wanted to have called."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionCallOutput(Body):
    """``function_call_output``: what came of it."""

    type: Literal["function_call_output"]
    call_id: str
    output: JsonValue


class FunctionTool(Body):
    """``function``, the one kind of tool that experts take."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None


InputItem = InputMessage | FunctionCall | FunctionCallOutput


def _kind(item: object) -> str:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message")
    return kind if isinstance(kind, str) else repr(kind)


def _says_something(items: list[InputItem]) -> list[InputItem]:
    if not any(isinstance(item, InputMessage) and item.says_something for item in items):
        raise ValueError("no message in it has any text")
    return items


Item = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")],
    Discriminator(_kind),
]
Items = Annotated[
    list[Item],
    Field(max_length=MAX_MESSAGES, json_schema_extra=ITEM_SAYS_SOMETHING),
    AfterValidator(_says_something),
]


class ResponsesBody(Sampling):
    """``POST /v1/responses``"""

    model: Model
    input: Prompt | Items
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: JsonValue = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = False
    previous_response_id: None = Field(default=None, description="Not kept here: send the whole conversation")


class EmbeddingsBody(Body):
    """``POST /v1/embeddings``"""

    model: Model
    input: str | Annotated[list[str], Field(json_schema_extra={"minItems": 1, "maxItems": 2048})] = Field(
        description="A text, or a list of 1 to 2048 texts"
    )
    encoding_format: Literal["float", "base64"] = "float"
    mesh: MeshOptions = Field(default_factory=MeshOptions)
