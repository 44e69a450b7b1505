"""Compilers for the examples: PyPI's ziglang for C and Zig, npm's assemblyscript, WAT by us."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from script.example_tools.catalog import EXAMPLES, ROOT
from swarm_hub.cli.inspect import load_module
from swarm_hub.exceptions import HubError

PRODUCTS: Final = ROOT / "build" / "examples"
_TOOLS: Final = Path(__file__).parent
_ASC: Final = _TOOLS / "node_modules" / "assemblyscript" / "bin" / "asc.js"
_TIMEOUT_S: Final = 300

# No libc and no compiler runtime: either takes the compiler seconds to a minute to build first.
# A stack of a megabyte, the default, would count against the shard's memory for nothing.
_C: Final = (
    "-target", "wasm32-freestanding", "-O2", "-s", "-nostdlib", "-mbulk-memory",
    "-Wall", "-Wextra", "-Werror", "-Wl,--no-entry", "-Wl,-z,stack-size=65536",
)  # fmt: skip
_ZIG: Final = (
    "-target", "wasm32-freestanding", "-O", "ReleaseFast", "-fstrip", "-fno-compiler-rt",
    "-fno-entry", "-rdynamic",
)  # fmt: skip
_ASSEMBLYSCRIPT: Final = ("-O3", "--noAssert", "--runtime", "stub")


def build(source: Path) -> Path:
    """Compile a source file unless that was done already; returns the module's path."""
    if source.suffix == ".wat":
        return source
    product, stamp = PRODUCTS / f"{source.stem}.wasm", PRODUCTS / f"{source.stem}.made-from"
    wanted = _fingerprint(source)
    if product.exists() and stamp.exists() and stamp.read_text() == wanted:
        return product
    PRODUCTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PRODUCTS) as folder:
        made = Path(folder) / "made.wasm"
        _run(_command(source, made))
        # Two builds of the same module may run side by side.
        made.replace(product)
    stamp.write_text(wanted)
    return product


def module(source: Path) -> bytes:
    """Return what a source file compiles to, as it is submitted: Wasm, or its WAT text."""
    return load_module(build(source))


def _command(source: Path, made: Path) -> list[str]:
    zig = [sys.executable, "-m", "ziglang"]
    match source.suffix:
        case ".c":
            _need_ziglang()
            return [*zig, "cc", *_C, "-o", str(made), str(source)]
        case ".zig":
            _need_ziglang()
            return [*zig, "build-exe", str(source), *_ZIG, f"-femit-bin={made}"]
        case ".ts":
            node = shutil.which("node")
            if node is None or not _ASC.exists():
                raise HubError("AssemblyScript is not installed; run: script/setup --examples")
            return [node, str(_ASC), str(source), *_ASSEMBLYSCRIPT, "-o", str(made)]
        case suffix:
            raise HubError(f"{source}: there is no compiler for {suffix!r} files here")


def _need_ziglang() -> None:
    if importlib.util.find_spec("ziglang") is None:
        raise HubError("ziglang is not installed; run: script/setup --examples")


def _run(command: list[str]) -> None:
    cache = str(PRODUCTS / "zig-cache")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise HubError(f"the compiler refused the example:\n{done.stderr or done.stdout}")


def _fingerprint(source: Path) -> str:
    """Return what changes when the source, the shared C headers or the compilers' flags do."""
    parts = [source, *sorted((EXAMPLES / "c").glob("*.h")), _TOOLS / "package-lock.json"]
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for part in parts:
        digest.update(hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()
