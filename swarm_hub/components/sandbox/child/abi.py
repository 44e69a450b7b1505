"""What every ABI provides, and the registry that finds them by file name."""

import ctypes
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from wasmtime import Func, Instance, Memory, Store

from . import exports
from .failure import Failure
from .frames import Frames
from .scratch import Scratch
from .shape import Shape

_PAGE_BYTES = 65_536
_ATTRIBUTES = ("name", "rank", "wants", "uses_files", "entries", "run")


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The bounds of one run."""

    memory_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Session:
    """One instance in its own store, ready to be called once."""

    store: Store
    instance: Instance
    entry: str
    limits: RunLimits
    scratch: Scratch
    signatures: Mapping[str, exports.Signature]
    has_memory: bool = True
    frames: Frames = field(default_factory=Frames)
    # The arguments of the call, which a command has from WASI.
    args: Sequence[str] = ()

    @property
    def memory(self) -> Memory:
        """The exported memory; the ABIs that use it require it in `entries`."""
        memory = self.instance.exports(self.store)["memory"]
        if not isinstance(memory, Memory):
            raise Failure("bad_export", "The export `memory` is not a plain memory")
        return memory

    def call(self, name: str, *arguments: int) -> int:
        """Call an exported function that returns one integer."""
        if (signature := self.signatures.get(name)) is not None:
            return exports.call(self.store, self.instance, name, signature, arguments)
        result = self.function(name)(self.store, *arguments)
        if not isinstance(result, int):
            raise Failure("bad_export", f"The export `{name}` did not return one integer")
        return result

    def function(self, name: str) -> Func:
        """Return an exported function."""
        function = self.instance.exports(self.store)[name]
        if not isinstance(function, Func):
            raise Failure("bad_export", f"The export `{name}` is not a function")
        return function

    def memory_bytes(self) -> int:
        """Return how large the exported memory is now."""
        return exports.memory(self.store, self.instance)[1]

    def write(self, at: int, body: bytes | bytearray) -> None:
        """Write bytes into the exported memory; raises Failure if they are not all inside it."""
        address, memory_bytes = exports.memory(self.store, self.instance)
        if at + len(body) > memory_bytes:
            raise _outside(at, len(body), memory_bytes)
        if not body:
            return
        if isinstance(body, bytes):
            ctypes.memmove(address + at, body, len(body))
        else:
            ctypes.memmove(address + at, ctypes.byref(ctypes.c_char.from_buffer(body)), len(body))

    def read(self, at: int, size_bytes: int) -> bytes:
        """Read bytes of the exported memory; raises Failure if they are not all inside it."""
        address, memory_bytes = exports.memory(self.store, self.instance)
        if at + size_bytes > memory_bytes:
            raise _outside(at, size_bytes, memory_bytes)
        return ctypes.string_at(address + at, size_bytes) if size_bytes else b""

    def make_room(self, size_bytes: int) -> None:
        """Grow the memory until it has at least this many bytes."""
        missing = size_bytes - self.memory_bytes()
        if missing > 0:
            if size_bytes > self.limits.memory_bytes:
                raise Failure(
                    "memory",
                    f"The shard's input of {size_bytes} bytes does not fit into the memory limit "
                    f"of {self.limits.memory_bytes} bytes; use smaller shards or a higher limit",
                )
            self.memory.grow(self.store, -(-missing // _PAGE_BYTES))


class Abi(Protocol):
    """One way to hand a shard to a module and to take its result back."""

    @property
    def name(self) -> str:
        """The name used in a job's spec."""
        ...

    @property
    def rank(self) -> int | None:
        """Lower is preferred if a module fits several ABIs; None if jobs can't choose this one."""
        ...

    @property
    def wants(self) -> str:
        """The exports a module needs, for messages."""
        ...

    @property
    def uses_files(self) -> bool:
        """Whether the shard's items are files under `/in`, and the results files under `/out`."""
        ...

    def entries(self, shape: Shape) -> tuple[str, ...]:
        """Return the exports that can be the entry; empty if the module does not fit."""
        ...

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        """Call the module once and return the shard's output; a large body is a bytearray."""
        ...


_custom: list[str] = []


def add(paths: Sequence[str]) -> None:
    """Have the registry import these files too; call it before the first use of the registry."""
    _custom.extend(paths)


@cache
def registry() -> Mapping[str, Abi]:
    """Import every `abi_*.py` of this package, and what was added; by name, best first.

    Raises ImportError when an added file isn't an ABI.
    """
    found: dict[str, Abi] = {}
    for path in Path(__file__).parent.glob("abi_*.py"):
        abi: Abi = importlib.import_module(f".{path.stem}", __package__).ABI
        found[abi.name] = abi
    for added in _custom:
        abi = _imported(added)
        if abi.name in found:
            raise ImportError(f"{added}: there is an abi {abi.name!r} already")
        found[abi.name] = abi
    return dict(sorted(found.items(), key=lambda item: item[1].rank or 0))


def _imported(path: str) -> Abi:
    # As a module of this package, so that it can import its neighbours as the built-in ones do.
    spec = importlib.util.spec_from_file_location(f"{__package__}.{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    abi = getattr(module, "ABI", None)
    missing = [name for name in _ATTRIBUTES if not hasattr(abi, name)]
    if missing:
        raise ImportError(f"{path}: ABI has no {', '.join(missing)}")
    return cast(Abi, abi)


def _outside(at: int, size_bytes: int, memory_bytes: int) -> Failure:
    return Failure(
        "trap: memory_out_of_bounds",
        f"the module gave the address {at} for {size_bytes} bytes, outside its memory of "
        f"{memory_bytes} bytes",
    )


def resolve_entry(abi: Abi, shape: Shape, wanted: str | None) -> str:
    """Return the entry to call, or fail with the candidates by name."""
    candidates = abi.entries(shape)
    if wanted is not None:
        if wanted in candidates:
            return wanted
        have = next((port for port in shape.exports if port.name == wanted), None)
        problem = (
            f"The module does not export `{wanted}`"
            if have is None
            else f"The export `{wanted}` is a {have.kind} of type {have.type}"
        )
        raise Failure(
            "bad_export", f"{problem}; abi {abi.name} wants {abi.wants}. {_offer(candidates)}"
        )
    if len(candidates) == 1:
        return candidates[0]
    problem = "No export fits" if not candidates else "Several exports fit"
    raise Failure(
        "bad_export",
        f"{problem} abi {abi.name}, which wants {abi.wants}. {_offer(candidates)}",
    )


def _offer(candidates: tuple[str, ...]) -> str:
    if not candidates:
        return "No export of this module can be the entry"
    named = ", ".join(candidates[:12]) + (", ..." if len(candidates) > 12 else "")
    return f"Choose the entry from: {named}"
