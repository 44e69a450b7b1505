"""What a call of a WIT component costs from Python, beside abi `bytes`; see ADR 051.

Runs wasmtime in this process: benchmarks/component.py [--json]
"""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import wasmtime
from figures import Figures, start
from wasmtime import component

_MIB = 1024 * 1024
_SMALL_BYTES = 10

_COMPONENT = """(component
  (core module $m (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (global.get $top))
      (global.set $top (i32.add (global.get $top) (local.get 3)))
      (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
        (then (drop (memory.grow
          (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1))))))
      (local.get $at))
    (func (export "map") (param i32 i32) (result i32)
      (i32.store (i32.const 0) (local.get 0))
      (i32.store (i32.const 4) (local.get 1))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "map") (param "shard" {type}) (result {type})
    (canon lift (core func $i "map")
      (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"""

_MODULE = """(module (memory (export "memory") 20)
  (func (export "map") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32))
            (i64.extend_i32_u (local.get 1)))))"""


def main() -> None:
    """Measure and print."""
    figures, _ = start(__doc__ or "")
    engine = wasmtime.Engine()
    linker: Any = component.Linker(engine)
    for name, wit, body in (("string", "string", "x"), ("bytes", "(list u8)", b"x")):
        made = component.Component(engine, wasmtime.wat2wasm(_COMPONENT.format(type=wit)))

        def by_component(data: Any, made: Any = made) -> Any:
            store = wasmtime.Store(engine)
            return linker.instantiate(store, made).get_func(store, "map")(store, data)

        _add(figures, f"component_{name}", by_component, body * _SMALL_BYTES, body * _MIB)
    module = wasmtime.Module(engine, wasmtime.wat2wasm(_MODULE))

    def by_bytes(data: bytes) -> bytes:
        store = wasmtime.Store(engine)
        exports: Any = wasmtime.Instance(store, module, []).exports(store)
        memory = exports["memory"]
        ctypes.memmove(memory.get_buffer_ptr(store, len(data), 0), data, len(data))
        packed = exports["map"](store, 0, len(data))
        size = packed & 0xFFFF_FFFF
        return ctypes.string_at(memory.get_buffer_ptr(store, size, packed >> 32), size)

    _add(figures, "core_bytes", by_bytes, b"x" * _SMALL_BYTES, b"x" * _MIB)


def _add(figures: Figures, name: str, call: Callable[[Any], Any], small: Any, large: Any) -> None:
    figures.add(f"{name}_small_us", _median_s(call, small, 200) * 1e6, "us")
    figures.add(f"{name}_ms_per_mib", _median_s(call, large, 5) * 1e3, "ms")


def _median_s(call: Callable[[Any], Any], data: Any, times: int) -> float:
    found = []
    for _ in range(times):
        started_s = time.perf_counter()
        if call(data) != data:
            sys.exit("the module did not give back what it got")
        found.append(time.perf_counter() - started_s)
    return statistics.median(found)


if __name__ == "__main__":
    main()
