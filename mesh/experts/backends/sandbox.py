"""A WebAssembly module in wasmtime, one run at a time, with bounded fuel and memory, and an end from outside.

Every sandbox has an engine of its own: its epoch is what stops its run and no other. Nothing in a callback raises,
and callbacks are made and dropped on one thread only: wasmtime's binding shares both between threads.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import wasmtime

from mesh.errors import MeshError
from mesh.experts.backends.wasi import SIGNATURES, Wasi

_MODULE = "wasi_snapshot_preview1"
_TABLE_ELEMENTS = 1 << 20

# exited: `_start` returned or proc_exit was called; the others: what was used up, or what went wrong.
End = Literal["exited", "fuel", "stopped", "trap"]


class Compiled:
    """A module that has been read and compiled. Raises MeshError for what is no module for us."""

    def __init__(self, path: Path) -> None:
        try:
            source = path.read_bytes()
            module = wasmtime.Module(_engine(), source.decode() if path.suffix == ".wat" else source)
        except (OSError, UnicodeDecodeError, wasmtime.WasmtimeError) as error:
            raise MeshError(
                f"{path} is not a WebAssembly module: {_first_line(error)}", remedy="Correct options.path."
            ) from None
        exports = {export.name for export in module.exports}
        if lacking := [name for name in ("_start", "memory") if name not in exports]:
            raise MeshError(
                f"{path} does not export {' or '.join(lacking)}",
                remedy="Build it as a WASI command: for example with the target wasm32-wasip1.",
            )
        self.serialized = bytes(module.serialize())
        self.digest = hashlib.sha256(source).hexdigest()


class Sandbox:
    """Runs the module, again and again. Make and `close` it on the event loop's thread; `run` in any."""

    def __init__(self, compiled: Compiled, *, fuel: int, memory_bytes: int) -> None:
        self._engine = _engine()
        self._module = wasmtime.Module.deserialize(self._engine, compiled.serialized)
        self._fuel = fuel
        self._memory_bytes = memory_bytes
        self._wasi: Wasi | None = None
        self._stopped = False
        self._linker = wasmtime.Linker(self._engine)
        for name, parameters in SIGNATURES.items():
            kinds = [wasmtime.ValType.i64() if kind == "I" else wasmtime.ValType.i32() for kind in parameters]
            results = [] if name == "proc_exit" else [wasmtime.ValType.i32()]
            function = self._function(name)
            self._linker.define_func(_MODULE, name, wasmtime.FuncType(kinds, results), function, access_caller=True)
        self._linker.define_unknown_imports_as_traps(self._module)

    def prepare(self) -> None:
        """A run comes; `stop` is about it from now on."""
        self._stopped = False

    def stop(self) -> None:
        """End the run, also one that has not begun yet. From any thread."""
        self._stopped = True
        self._engine.increment_epoch()

    def run(
        self, stdin: bytes, arguments: list[str], variables: dict[str, str], write: Callable[[int, bytes], None]
    ) -> tuple[End, int, str]:
        """Run ``_start`` and return how it ended, its exit code, and what the engine says."""
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=self._memory_bytes, table_elements=_TABLE_ELEMENTS, instances=1, memories=1)
        store.set_fuel(self._fuel)
        store.set_epoch_deadline(1)
        if self._stopped:
            return "stopped", -1, ""
        self._wasi = Wasi(stdin, arguments, variables, write, self._engine.increment_epoch)
        try:
            start = self._linker.instantiate(store, self._module).exports(store)["_start"]
            assert isinstance(start, wasmtime.Func)
            start(store)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            return self._how(error)
        finally:
            store.close()
        return "exited", self._wasi.exit_code or 0, ""

    def close(self) -> None:
        """Give the memory back."""
        self._linker.close()
        self._module.close()
        self._engine.close()

    def _how(self, error: "wasmtime.Trap | wasmtime.WasmtimeError") -> tuple[End, int, str]:
        assert self._wasi is not None
        if self._wasi.exit_code is not None:
            return "exited", self._wasi.exit_code, ""
        if self._stopped:
            return "stopped", -1, ""
        code = error.trap_code if isinstance(error, wasmtime.Trap) else None
        if code is wasmtime.TrapCode.OUT_OF_FUEL:
            return "fuel", -1, ""
        return "trap", -1, _first_line(error)

    def _function(self, name: str) -> Callable[..., int | None]:
        def function(caller: wasmtime.Caller, *arguments: int) -> int | None:
            memory = caller.get("memory")
            wasi = self._wasi
            if wasi is None or not isinstance(memory, wasmtime.Memory):
                return None if name == "proc_exit" else 0
            errno = wasi.call(name, _Memory(caller, memory), arguments)
            return None if name == "proc_exit" else errno

        return function


class _Memory:
    """See `mesh.experts.backends.wasi.GuestMemory`."""

    def __init__(self, caller: "wasmtime.Caller", memory: "wasmtime.Memory") -> None:
        self._caller = caller
        self._memory = memory

    def read(self, start: int, length: int) -> bytes:
        if start + length > self._memory.data_len(self._caller):
            raise IndexError
        return bytes(self._memory.read(self._caller, start, start + length))

    def write(self, start: int, data: bytes) -> None:
        if start + len(data) > self._memory.data_len(self._caller):
            raise IndexError
        self._memory.write(self._caller, data, start)


def _engine() -> "wasmtime.Engine":
    settings: Any = wasmtime.Config()
    settings.consume_fuel = True
    settings.epoch_interruption = True
    settings.parallel_compilation = False
    return wasmtime.Engine(settings)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith(("wasm trap", "unknown import"))]
    return (reasons or lines or [type(error).__name__])[-1 if reasons else 0][:300]
