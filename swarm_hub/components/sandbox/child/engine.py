"""Engines, loaded modules and the run of one shard."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from wasmtime import (
    Config,
    Engine,
    ExitTrap,
    InstancePre,
    Linker,
    Module,
    Store,
    Trap,
    TrapCode,
    WasmtimeError,
)

from . import exports
from .abi import RunLimits, Session, registry, resolve_entry
from .failure import Failure
from .frames import Frames
from .keeping import FRAMES
from .limits import bound_files
from .scratch import Scratch
from .shape import COMMAND_ENTRY, Shape, describe, refusal
from .variants import SETTINGS
from .wasi import FixedSources, context

LOADED_MAX = 16
WASM_MAGIC = b"\0asm\1\0\0\0"

_NAME_CHARS_MAX = 80
_TABLE_ELEMENTS_MAX = 10_000
_TABLES_MAX = 4
_MEMORY_BYTES_MAX = 2**32
# A deterministic run without a fuel limit still needs some fuel to start.
_FUEL_ENDLESS = 2**62

_HINTS = {
    TrapCode.UNREACHABLE: (
        "The module gave up (a panic, an abort or a failed allocation); "
        "run it locally with the same input"
    ),
    TrapCode.STACK_OVERFLOW: "The recursion is too deep for the stack of 512 KiB",
    TrapCode.MEMORY_OUT_OF_BOUNDS: "The module read or wrote outside its memory",
    TrapCode.TABLE_OUT_OF_BOUNDS: "The module used a table entry that does not exist",
    TrapCode.INTEGER_DIVISION_BY_ZERO: "The module divided an integer by zero",
}


class VariantEngine:
    """An engine with its linker; there is one for each way of compiling."""

    def __init__(self, variant: str, frames: Frames) -> None:
        config = Config()
        for name, value in SETTINGS[variant].items():
            setattr(config, name, value)
        self.engine = Engine(config)
        self.metered = bool(SETTINGS[variant].get("consume_fuel"))
        self.linker = Linker(self.engine)
        self.linker.define_wasi()
        self.frames = frames
        frames.define(self.linker)
        self.fixed: FixedSources | None = None
        if SETTINGS[variant].get("cranelift_nan_canonicalization"):
            self.fixed = FixedSources()
            self.fixed.define(self.linker)


@dataclass(slots=True)
class LoadedModule:
    """A module linked and ready to be instantiated many times."""

    home: VariantEngine
    pre: InstancePre
    shape: Shape
    signatures: Mapping[str, exports.Signature]
    has_memory: bool
    initializes: bool
    uses_wasi: bool
    entries: dict[tuple[str, str | None], str] = field(default_factory=dict)
    # Whether it had an instance.
    begun: bool = False

    @classmethod
    def of(cls, home: VariantEngine, pre: InstancePre, shape: Shape) -> "LoadedModule":
        """Read once what each run asks of the exports."""
        return cls(
            home,
            pre,
            shape,
            exports.signatures(shape),
            shape.has("memory", "memory"),
            shape.has("_initialize", "func", "() -> ()"),
            shape.uses_wasi,
        )

    def entry(self, abi: str, wanted: str | None) -> str:
        """Return the entry for this abi, resolved once."""
        known = self.entries.get((abi, wanted))
        if known is None:
            known = resolve_entry(registry()[abi], self.shape, wanted)
            self.entries[abi, wanted] = known
        return known


@dataclass(slots=True)
class Spent:
    """What a run used and said, also when it failed."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int | None = None
    fuel: int | None = None
    # The tail of a command's stderr.
    said: str = ""


class Library:
    """The modules of this child: compiles, loads and keeps the most recent ones."""

    def __init__(self) -> None:
        self._homes: dict[str, VariantEngine] = {}
        self._modules: OrderedDict[str, LoadedModule] = OrderedDict()
        self.frames = Frames()

    def compile(self, wasm: bytes, variant: str) -> Module:
        """Compile a binary module; text and components are refused."""
        if not wasm.startswith(WASM_MAGIC):
            raise Failure("bad_module", "This is not a Wasm core module in binary form")
        try:
            return Module(self.home(variant).engine, wasm)
        except WasmtimeError as err:
            raise Failure("bad_module", f"The module can't be compiled: {err}") from None

    def link(self, module: Module, variant: str) -> LoadedModule:
        """Check the imports and resolve them once for all runs."""
        home = self.home(variant)
        shape = describe(module)
        refused = refusal(shape)
        if refused is not None:
            raise Failure("bad_module", refused)
        try:
            return LoadedModule.of(home, home.linker.instantiate_pre(module), shape)
        except WasmtimeError as err:
            raise Failure("bad_module", f"The module can't be linked: {err}") from None

    def load(self, native: bytes, variant: str) -> LoadedModule:
        """Take native code that this machine's sandbox made earlier."""
        try:
            module = Module.deserialize(self.home(variant).engine, native)
        except WasmtimeError as err:
            raise Failure("bad_native", f"The native code was made elsewhere: {err}") from None
        return self.link(module, variant)

    def keep(self, key: str, module: LoadedModule) -> None:
        """Remember a module; the least recently used one makes room."""
        self._modules[key] = module
        self._modules.move_to_end(key)
        if len(self._modules) > LOADED_MAX:
            self._modules.popitem(last=False)

    def find(self, key: str) -> LoadedModule:
        """Return a module that is still loaded."""
        module = self._modules.get(key)
        if module is None:
            raise Failure("not_loaded", f"The module {key} is not loaded here")
        self._modules.move_to_end(key)
        return module

    def home(self, variant: str) -> VariantEngine:
        """Return the engine of a variant, made at its first use."""
        home = self._homes.get(variant)
        if home is None:
            home = self._homes[variant] = VariantEngine(variant, self.frames)
        return home


def run(
    module: LoadedModule,
    call: Mapping[str, Any],
    body: bytes | bytearray,
    scratch: Scratch,
    spent: Spent,
) -> bytes:
    """Run one shard in a fresh store; raises Failure, and fills `spent` either way."""
    # A CPU limit makes the kernel count the process's time in ticks; the thread's time stays exact.
    started_s, started_cpu_s = time.perf_counter(), time.thread_time()
    home = module.home
    abi = registry().get(call["abi"])
    if abi is None:
        known = ", ".join(registry())
        raise Failure("bad_input", f"There is no abi {call['abi']!r}; known: {known}")
    entry = module.entry(abi.name, call["entry"])
    limits = RunLimits(min(call["memory"], _MEMORY_BYTES_MAX), call["output"])
    fuel = _fuel(call["fuel"]) if home.metered else None
    store = Store(home.engine)
    session: Session | None = None
    is_command = entry == COMMAND_ENTRY
    # A command without imports gets its files too: otherwise it would end with the previous shard's
    # output.
    uses_wasi = module.uses_wasi or is_command
    # Starts before the module's start function, which could write as well.
    watched = scratch.room.watched(limits.output_bytes) if abi.uses_files else nullcontext()
    try:
        store.set_limits(
            memory_size=limits.memory_bytes,
            table_elements=_TABLE_ELEMENTS_MAX,
            instances=1,
            tables=_TABLES_MAX,
            memories=1,
        )
        if fuel is not None:
            store.set_fuel(fuel)
        if home.fixed is not None:
            home.fixed.reset()
        if uses_wasi:
            logs = abi.name == FRAMES
            directories = scratch.prepare(
                b"" if logs else body,
                limits.output_bytes,
                as_files=abi.uses_files,
                script=call["script"],
            )
            context(store, scratch, call["args"], call["env"], directories, logs=logs)
        if not module.begun:
            # wasmtime keeps the initial content of a memory in a file, made at its first instance.
            bound_files(max(limits.memory_bytes, limits.output_bytes + 1))
        with watched:
            session = Session(
                store, module.pre.instantiate(store), entry, limits, scratch, module.signatures,
                module.has_memory, home.frames, call["args"],
            )  # fmt: skip
            module.begun = True
            bound_files(limits.output_bytes + 1)
            # A WASI reactor sets itself up here; a command does so in _start.
            if module.initializes and not is_command:
                session.function("_initialize")(store)
            return abi.run(session, body)
    except (Trap, WasmtimeError) as err:
        raise _explain(err, limits) from None
    finally:
        if session is not None and module.has_memory:
            spent.peak_memory_bytes = session.memory_bytes()
        if fuel is not None:
            spent.fuel = fuel - store.get_fuel()
        store.close()
        if uses_wasi:
            spent.said = scratch.stderr_text()
        spent.wall_s = time.perf_counter() - started_s
        spent.cpu_s = time.thread_time() - started_cpu_s


def _fuel(wanted: int | None) -> int:
    return _FUEL_ENDLESS if wanted is None else min(wanted, _FUEL_ENDLESS)


def _place(trap: Trap) -> str:
    """Return ` at <function>` for the innermost function of a trap, by name or by number."""
    frames = trap.frames
    if not frames:
        return ""
    name = frames[0].func_name or ""
    # A module's name section may contain anything.
    known = 0 < len(name) <= _NAME_CHARS_MAX and name.isprintable()
    return f" at {name if known else f'function {frames[0].func_index}'}"


def _explain(err: Trap | WasmtimeError, limits: RunLimits) -> Failure:
    if isinstance(err, ExitTrap):
        return Failure(f"exit: {err.code}", f"The module exited with code {err.code}")
    message = str(err)
    if isinstance(err, Trap) and err.trap_code is not None:
        code = err.trap_code
        if code is TrapCode.OUT_OF_FUEL:
            return Failure(
                "fuel", "The shard used up its fuel; raise limits.fuel or use smaller shards"
            )
        if code is TrapCode.ALLOCATION_TOO_LARGE:
            return Failure("memory", "The shard asked for too much memory at once")
        hint = _HINTS.get(code, "The module made a mistake that Wasm forbids")
        return Failure(f"trap: {code.name.lower()}{_place(err)}", f"{hint}\n{message}")
    if "invalid exit status" in message:
        return Failure("exit: invalid", "The module exited with a code that is not 0 to 125")
    if "Pointer out of bounds" in message:
        return Failure("trap: memory_out_of_bounds", f"WASI was given a bad address\n{message}")
    # These refusals of the store's limits have no code of their own, only a text.
    if "exceeds memory limits" in message or "failed to grow memory" in message:
        return Failure(
            "memory",
            f"The module needs more than the memory limit of {limits.memory_bytes} bytes; "
            f"raise limits.memory ({message})",
        )
    if "exceeds table limits" in message or "count too high" in message:
        return Failure("memory", f"The module is over the sandbox's table limits ({message})")
    return Failure("trap: host", message)
