"""What a compiled module exports and imports, as plain values."""

from dataclasses import dataclass

from wasmtime import FuncType, GlobalType, MemoryType, Module, TableType

from .failure import Failure

# A module with more has nothing to do with a job, and each export costs every run a little.
_EXPORTS_MAX = 5_000
_PAGE_BYTES = 65_536
_MEMORY_SECTION = 5

WASI_MODULE = "wasi_snapshot_preview1"
# What a preview1 command exports, and no other module does.
COMMAND_ENTRY = "_start"


@dataclass(frozen=True, slots=True)
class Port:
    """One export or import; `type` is text such as `(i32, i32) -> i64`."""

    name: str
    kind: str
    type: str


@dataclass(frozen=True, slots=True)
class Shape:
    """The outside of a module; imports are named `module.name`."""

    exports: tuple[Port, ...]
    imports: tuple[Port, ...]
    memory_min_bytes: int
    memory_max_bytes: int | None
    # Whether it has a memory of its own that it does not export; only an inspection finds out.
    hides_memory: bool = False

    def functions(self, type_text: str) -> tuple[str, ...]:
        """Return the names of the exported functions of exactly this type."""
        return tuple(
            port.name for port in self.exports if port.kind == "func" and port.type == type_text
        )

    def has(self, name: str, kind: str, type_text: str | None = None) -> bool:
        """Whether something of this name and kind, and of this type if given, is exported."""
        return any(
            port.name == name and port.kind == kind and type_text in (None, port.type)
            for port in self.exports
        )

    @property
    def uses_wasi(self) -> bool:
        """Whether a WASI context has to be set before the module is instantiated."""
        return any(port.name.startswith(WASI_MODULE + ".") for port in self.imports)


def describe(module: Module) -> Shape:
    """Read the exports and imports of a module; refuses a module with very many."""
    exports = module.exports
    if len(exports) > _EXPORTS_MAX:
        raise Failure(
            "bad_module",
            f"The module exports {len(exports)} items, more than {_EXPORTS_MAX}; "
            "export only the functions that are called",
        )
    memories: list[MemoryType] = []
    ports: list[Port] = []
    for export in exports:
        kind = export.type
        if isinstance(kind, MemoryType):
            memories.append(kind)
        ports.append(_port(export.name, kind))
    imports: list[Port] = []
    for item in module.imports:
        kind = item.type
        if isinstance(kind, MemoryType):
            memories.append(kind)
        imports.append(_port(f"{item.module}.{item.name or ''}", kind))
    limits = memories[0].limits if memories else None
    return Shape(
        exports=tuple(ports),
        imports=tuple(imports),
        memory_min_bytes=limits.min * _PAGE_BYTES if limits else 0,
        memory_max_bytes=limits.max * _PAGE_BYTES if limits and limits.max is not None else None,
    )


def defines_memory(wasm: bytes) -> bool:
    """Return whether a valid module has a memory section, by the heads of its sections."""
    at = 8
    while at < len(wasm):
        kind = wasm[at]
        if kind == _MEMORY_SECTION:
            return True
        size, shift, at = 0, 0, at + 1
        while True:
            size |= (wasm[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if wasm[at - 1] < 0x80:
                break
        at += size
    return False


def refusal(shape: Shape) -> str | None:
    """Return why a module with this shape would be refused, or None."""
    foreign = [port.name for port in shape.imports if not port.name.startswith(WASI_MODULE + ".")]
    if not foreign:
        return None
    named = ", ".join(foreign[:8]) + (", ..." if len(foreign) > 8 else "")
    return (
        f"The module imports {named}; only functions of {WASI_MODULE} are provided, so build it "
        "for wasm32-wasip1 or without imports"
    )


def _port(name: str, kind: object) -> Port:
    match kind:
        case FuncType():
            params = ", ".join(str(param) for param in kind.params)
            results = ", ".join(str(result) for result in kind.results)
            return Port(name, "func", f"({params}) -> {results or '()'}")
        case MemoryType():
            most = "" if kind.limits.max is None else str(kind.limits.max)
            return Port(name, "memory", f"{kind.limits.min}..{most} pages")
        case TableType():
            return Port(name, "table", str(kind.element))
        case GlobalType():
            return Port(name, "global", ("mut " if kind.mutable else "") + str(kind.content))
        case _:
            return Port(name, "other", type(kind).__name__)
