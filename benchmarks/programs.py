"""The kernels that the sandbox is measured with, compiled natively and to Wasm."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
# The functions of the module whose compilation is measured; they make about 0.5 MB.
_FUNCTIONS: Final = 2000
_CC: Final = ("gcc", "-O2")
_ZIG: Final = (
    sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-O2", "-s",
    "-nostdlib", "-Wl,--no-entry", "-Wl,-z,stack-size=65536",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's input, the same for both sides, a small one for slow engines, and the goal."""

    name: str
    size: tuple[int, int]
    small: tuple[int, int]
    target: float


KERNELS: Final = (
    Kernel("primes", (0, 700_000), (0, 60_000), 1.15),
    Kernel("sieve", (1000, 32_000), (40, 32_000), 1.5),
    Kernel("matmul", (2, 300), (1, 120), 1.5),
    Kernel("mandelbrot", (150, 450), (290, 294), 1.3),
    Kernel("sha256", (100, 100_000), (1, 20_000), 1.75),
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the compiled kernels are."""

    folder: Path

    def native(self, name: str) -> str:
        """Return the program that gcc made."""
        return str(self.folder / name)

    def wasm(self, name: str, kind: str = "") -> Path:
        """Return the module that zig made; `kind` is a way of compiling it."""
        return self.folder / f"{name}{kind}.wasm"


def compile_kernels(folder: Path) -> Programs:
    """Compile every kernel natively and to Wasm, in the ways that are compared."""
    if shutil.which(_CC[0]) is None:
        raise SystemExit(f"{_CC[0]} is missing: the kernels are compared with what it makes")
    programs = Programs(folder)
    kernels = _HERE / "kernels"
    for kernel in KERNELS:
        source = str(kernels / f"{kernel.name}.c")
        _make(*_CC, "-o", programs.native(kernel.name), str(kernels / "native.c"), source)
        for kind, flags in (
            ("", ("-mbulk-memory",)),
            ("-mvp", ("-mcpu=mvp",)),
            ("-simd", ("-mbulk-memory", "-msimd128")),
        ):
            _make(*_ZIG, *flags, "-o", str(programs.wasm(kernel.name, kind)), source)
    for command in ("cat", "copy"):
        source = str(kernels / f"{command}.c")
        _make(*_ZIG, "-mbulk-memory", "-o", str(programs.wasm(command)), source)
    return programs


def _make(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … failed (script/setup --test?):\n{done.stderr}")


def many_functions() -> str:
    """Return a module with many functions that all differ, as real programs have them."""
    functions = []
    for number in range(_FUNCTIONS):
        steps = "".join(
            f"(local.set $x (i64.add (i64.mul (local.get $x) (i64.const {number * 31 + step}))"
            f" (i64.rotl (local.get $y) (i64.const {step + 1}))))"
            f"(if (i64.lt_u (local.get $x) (local.get $y)) (then (local.set $y (i64.xor"
            f" (local.get $y) (i64.load (i32.and (i32.wrap_i64 (local.get $x)) (i32.const 4088)))"
            f"))))"
            for step in range(6)
        )
        functions.append(
            f"(func $f{number} (param $x i64) (param $y i64) (result i64) {steps} (local.get $x))"
        )
    calls = "".join(
        f"(local.set 0 (call $f{number} (local.get 0) (local.get 1)))"
        for number in range(_FUNCTIONS)
    )
    return (
        f"(module (memory 1) {''.join(functions)} "
        f'(func (export "map") (param i64 i64) (result i64) {calls} (local.get 0)))'
    )
