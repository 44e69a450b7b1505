"""The report on a module: what it exports and imports, and which ABIs it fits."""

import json
from dataclasses import replace

from .abi import registry
from .engine import Library
from .failure import Failure
from .shape import Port, Shape, defines_memory, describe, refusal
from .variants import PLAIN

# A report is for people and for choosing an entry; the rest is of no use.
_PORTS_MAX = 1_000
_NAME_CHARS_MAX = 200


def inspect(library: Library, wasm: bytes) -> bytes:
    """Compile the module, to know that this works, and describe it as JSON."""
    module = library.compile(wasm, PLAIN)
    shape = describe(module)
    if not shape.has("memory", "memory") and defines_memory(wasm):
        shape = replace(shape, hides_memory=True)
    refused = refusal(shape)
    if refused is None:
        try:
            library.link(module, PLAIN)
        except Failure as failure:
            refused = failure.text
    return json.dumps(
        {
            "abis": {
                abi.name: _some(abi.entries(shape))
                for abi in registry().values()
                if refused is None and abi.rank is not None
            },
            "folds": refused is None and bool(registry()["fold"].entries(shape)),
            **_outside(shape),
            "refused": refused,
        }
    ).encode()


def _outside(shape: Shape) -> dict[str, object]:
    return {
        "exports": _ports(shape.exports),
        "imports": _ports(shape.imports),
        "memory_min_bytes": shape.memory_min_bytes,
        "memory_max_bytes": shape.memory_max_bytes,
    }


def _ports(ports: tuple[Port, ...]) -> list[list[str]]:
    return [
        [port.name[:_NAME_CHARS_MAX], port.kind, port.type[:_NAME_CHARS_MAX]]
        for port in ports[:_PORTS_MAX]
    ]


def _some(names: tuple[str, ...]) -> list[str]:
    return [name for name in names[:_PORTS_MAX] if len(name) <= _NAME_CHARS_MAX]
