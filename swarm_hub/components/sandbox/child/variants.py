"""The three ways modules are compiled, as plain data that the hub can hash without wasmtime."""

PLAIN = "plain"
FUEL = "fuel"
DETERMINISTIC = "deterministic"

# Proposals that cost safety or bounds and that no supported toolchain needs: an atomic wait
# can't be interrupted, and the GC heap is outside the memory limit.
_COMMON: dict[str, bool | int] = {
    "max_wasm_stack": 512 * 1024,
    "wasm_threads": False,
    "wasm_memory64": False,
    "wasm_multi_memory": False,
    "wasm_relaxed_simd": False,
    "wasm_gc": False,
    "wasm_exceptions": False,
    "parallel_compilation": False,
}

SETTINGS: dict[str, dict[str, bool | int]] = {
    PLAIN: {**_COMMON},
    FUEL: {**_COMMON, "consume_fuel": True},
    DETERMINISTIC: {**_COMMON, "consume_fuel": True, "cranelift_nan_canonicalization": True},
}
