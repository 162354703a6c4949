"""What clients send: the fields of OpenAI's bodies that mean something here. Others are ignored, as its servers do."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Model = Annotated[str, Field(min_length=1, max_length=256, description="An expert's name, mesh/<domain> or mesh/auto")]
Tokens = Annotated[int, Field(ge=1, le=1 << 31)]
Stop = Annotated[str | list[str] | None, Field(description="Where to stop")]


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
    fan_out: int = Field(default=0, ge=0, le=16)
    quorum: int = Field(default=0, ge=0, le=16)
    delivery: Literal["", "stream", "whole"] = ""


class Sampling(Body):
    """What a model is told about how to write."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    mesh: MeshOptions = MeshOptions()


class StreamOptions(Body):
    """``stream_options``"""

    include_usage: bool = False


class Completion(Sampling):
    """What both kinds of completion share."""

    model: Model
    max_tokens: Tokens | None = None
    stop: Stop = None
    seed: int | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = 1

    @property
    def wants_usage(self) -> bool:
        """Whether the last chunk of a stream tells the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatBody(Completion):
    """``POST /v1/chat/completions``"""

    messages: list[dict[str, JsonValue]] = Field(min_length=1)
    max_completion_tokens: Tokens | None = None
    tools: list[dict[str, JsonValue]] | None = None
    tool_choice: JsonValue = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, JsonValue] | None = None


class CompletionBody(Completion):
    """``POST /v1/completions``"""

    prompt: str | list[str] = Field(description="A prompt, or several, each answered by itself")


class ResponsesBody(Sampling):
    """``POST /v1/responses``"""

    model: Model
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    tools: list[dict[str, JsonValue]] | None = None
    tool_choice: JsonValue = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = False
    previous_response_id: None = Field(default=None, description="Not kept here: send the whole conversation")


class EmbeddingsBody(Body):
    """``POST /v1/embeddings``"""

    model: Model
    input: str | list[str] = Field(description="A text, or a list of 1 to 2048 texts")
    encoding_format: Literal["float", "base64"] = "float"
    mesh: MeshOptions = MeshOptions()
