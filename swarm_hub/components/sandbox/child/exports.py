"""Single exports of an instance by wasmtime's C API: its Python package lists all for each of them.

It also looks up the types of a function and converts each value at each call. Here they are read
once for a module; calling with other ones than a function has would corrupt memory.
"""

import ctypes
from collections.abc import Mapping
from typing import Any, Final

from wasmtime import Instance, Store, Trap, WasmtimeError
from wasmtime import _ffi as ffi
from wasmtime._func import maybe_raise_last_exn

from .failure import Failure
from .shape import Shape

# The kinds of a function's parameters, and of its one result.
Signature = tuple[tuple[str, ...], str]

_INTEGERS: Final = frozenset({"i32", "i64"})
_FUNC: Final = ffi.WASMTIME_EXTERN_FUNC.value
_MEMORY: Final = ffi.WASMTIME_EXTERN_MEMORY.value
_TrapPointer: Final = ctypes.POINTER(ffi.wasm_trap_t)


def signatures(shape: Shape) -> Mapping[str, Signature]:
    """Return the functions that take only integers and return one."""
    found = {}
    for port in shape.exports:
        if port.kind == "func":
            head, _, result = port.type.partition(") -> ")
            kinds = tuple(kind for kind in head.removeprefix("(").split(", ") if kind)
            if _INTEGERS.issuperset((*kinds, result)):
                found[port.name] = kinds, result
    return found


def call(
    store: Store, instance: Instance, name: str, signature: Signature, arguments: tuple[int, ...]
) -> int:
    """Call a function of exactly that signature; raises Trap or WasmtimeError."""
    kinds, result = signature
    if len(arguments) != len(kinds):
        raise Failure("bad_export", f"The export `{name}` takes {len(kinds)} arguments")
    context = store._context()
    function = _found(store, instance, name, _FUNC).of.func
    values = (ffi.wasmtime_val_raw * max(1, len(kinds)))()
    for value, kind, argument in zip(values, kinds, arguments, strict=False):
        setattr(value, kind, argument)
    trap = _TrapPointer()
    error = ffi.wasmtime_func_call_unchecked(
        context, ctypes.byref(function), values, len(values), ctypes.byref(trap)
    )
    if error or trap:
        ended = WasmtimeError._from_ptr(error) if error else Trap._from_ptr(trap)
        # A function of ours that the module called may have raised.
        maybe_raise_last_exn()
        raise ended
    return int(getattr(values[0], result))


def memory(store: Store, instance: Instance) -> tuple[int, int]:
    """Return the address of the export `memory` and its size in bytes, until the next call."""
    found = ctypes.byref(_found(store, instance, "memory", _MEMORY).of.memory)
    context = store._context()
    size_bytes = ffi.wasmtime_memory_data_size(context, found)
    if not size_bytes:
        return 0, 0
    return ctypes.addressof(ffi.wasmtime_memory_data(context, found).contents), size_bytes


def _found(store: Store, instance: Instance, name: str, kind: Any) -> ffi.wasmtime_extern:
    item, raw = ffi.wasmtime_extern(), name.encode()
    there = ffi.wasmtime_instance_export_get(
        store._context(), ctypes.byref(instance._instance), raw, len(raw), ctypes.byref(item)
    )
    if not there or item.kind != kind:
        what = "function" if kind == _FUNC else "plain memory"
        raise Failure("bad_export", f"The export `{name}` is not a {what}")
    return item
