"""Modules that mean harm, or are merely broken, end with the right code and nothing else does."""

import struct
from typing import Any

import pytest

from swarm_hub.components.sandbox.call import SandboxError
from swarm_hub.components.sandbox.pool import Sandbox
from tests.components.sandbox import modules
from tests.components.sandbox.conftest import MIB, Bench, make_call

RECURSION = modules.range_module(
    "(call $deep (local.get $lo))",
    """(func $deep (param i64) (result i64)
         (i64.add (i64.const 1) (call $deep (i64.add (local.get 0) (i64.const 1)))))""",
)
START_LOOP = modules.range_module("(i64.const 0)", "(func $forever (loop (br 0))) (start $forever)")
# Grows by a page and touches it until it is refused, then traps as an allocator would.
GROW_AND_TOUCH = modules.range_module(
    """(loop $next
         (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
         (memory.fill (i32.shl (i32.sub (memory.size) (i32.const 16)) (i32.const 16))
           (i32.const 1) (i32.const 1048576))
         (br $next))
       (i64.const 0)""",
    "(memory 1)",
)
TABLE_GROW = modules.range_module(
    """(loop $next
         (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))
           (then (unreachable)))
         (br $next))
       (i64.const 0)""",
    "(table $t 1 funcref)",
)
BULK_FILL = modules.range_module(
    """(loop $next (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $next))
       (i64.const 0)""",
    "(memory 1)",
)
STDOUT_FLOOD = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 65536))
    (loop $next
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $next))))"""
# As above on stderr, 1000 times, then a normal end.
STDERR_FLOOD = STDOUT_FLOOD.replace(
    "(call $write (i32.const 1)", "(call $write (i32.const 2)"
).replace(
    "(br $next)",
    """(i32.store (i32.const 131000) (i32.add (i32.load (i32.const 131000)) (i32.const 1)))
       (br_if $next (i32.lt_u (i32.load (i32.const 131000)) (i32.const 200)))""",
)
SLEEPER = """(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    ;; One clock subscription, a hundred seconds.
    (i64.store (i32.const 24) (i64.const 100000000000))
    (drop (call $poll (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 256)))))"""

# Name, module, abi, expected code, changed limits.
CASES: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("endless loop", modules.MAYBE_ENDLESS, "range", "wall_time", {"wall_time_s": 0.2}),
    ("endless loop, metered", modules.MAYBE_ENDLESS, "range", "fuel", {"fuel": 10_000_000}),
    ("endless start", START_LOOP, "range", "wall_time", {"wall_time_s": 0.2}),
    ("endless start, metered", START_LOOP, "range", "fuel", {"fuel": 10_000_000}),
    ("endless fill", BULK_FILL, "range", "wall_time", {"wall_time_s": 0.2}),
    ("endless fill, metered", BULK_FILL, "range", "fuel", {"fuel": 10_000_000}),
    ("endless sleep", SLEEPER, "wasi", "wall_time", {"wall_time_s": 0.2}),
    ("deep recursion", RECURSION, "range", "trap: stack_overflow", {}),
    ("memory bomb", GROW_AND_TOUCH, "range", "trap: unreachable", {"memory_bytes": 8 * MIB}),
    ("table bomb", TABLE_GROW, "range", "trap: unreachable", {}),
    (
        "huge minimum",
        modules.range_module("(i64.const 0)", "(memory 65536)"),
        "range",
        "memory",
        {},
    ),
    (
        "huge table",
        modules.range_module("(i64.const 0)", "(table 10000000 funcref)"),
        "range",
        "memory",
        {},
    ),
    (
        "many memories",
        modules.range_module("(i64.const 0)", "(memory 1) " * 50),
        "range",
        "bad_module",
        {},
    ),
    (
        "atomic wait",
        modules.range_module(
            """(i64.extend_i32_s
                 (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))""",
            "(memory 1 1 shared)",
        ),
        "range",
        "bad_module",
        {},
    ),
    (
        "foreign import",
        modules.range_module("(i64.const 0)", '(import "env" "system" (func (param i32)))'),
        "range",
        "bad_module",
        {},
    ),
    (
        "unknown WASI function",
        modules.range_module(
            "(i64.const 0)", '(import "wasi_snapshot_preview1" "proc_fork" (func))'
        ),
        "range",
        "bad_module",
        {},
    ),
    ("missing export", modules.SUM, "range", "bad_export", {}),
    ("missing entry", modules.SUM, "i32-array", "bad_export", {"entry": "main"}),
    (
        "wrong signature",
        '(module (memory (export "memory") 1) (func (export "sum") (param i64) (result i32) '
        "(i32.const 1)))",
        "i32-array",
        "bad_export",
        {"entry": "sum"},
    ),
    (
        "result outside",
        modules.bytes_module("(i64.const 0x0000fff0_00000100)"),
        "bytes",
        "trap: memory_out_of_bounds",
        {},
    ),
    (
        "result at the end of the address space",
        modules.bytes_module("(i64.const 0xffffffff_ffffffff)"),
        "bytes",
        "trap: memory_out_of_bounds",
        {},
    ),
    (
        "alloc outside",
        modules.bytes_module("(i64.const 0)", alloc="(i32.const -1)"),
        "bytes",
        "trap: memory_out_of_bounds",
        {},
    ),
    (
        "large result",
        modules.bytes_module("(i64.const 1000)"),
        "bytes",
        "output",
        {"output_bytes": 999},
    ),
    ("stdout flood", STDOUT_FLOOD, "wasi", "output", {}),
    (
        "stdout over by one write",
        modules.says(1, "abcdef", 0),
        "wasi",
        "output",
        {"output_bytes": 5},
    ),
    (
        "exit from another abi",
        """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
             (memory (export "memory") 1)
             (func (export "map") (param i64 i64) (result i64)
               (call $exit (i32.const 0)) (i64.const 1)))""",
        "range",
        "exit: 0",
        {},
    ),
    (
        "division by zero",
        modules.range_module("(i64.div_s (local.get $hi) (i64.const 0))"),
        "range",
        "trap: integer_division_by_zero",
        {},
    ),
    (
        "unreachable",
        modules.range_module("(unreachable)"),
        "range",
        "trap: unreachable",
        {},
    ),
]


@pytest.mark.parametrize(
    ("module", "abi", "code", "changed"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
async def test_a_hostile_module_ends_with_its_code_and_the_slot_goes_on(
    bench: Bench, module: str, abi: str, code: str, changed: dict[str, Any]
) -> None:
    data = b"1 9" if abi == "range" else b"12345678"
    outcome = await bench.run(module, abi, data, **changed)
    assert outcome.code.partition(" at ")[0] == code, outcome.text
    assert outcome.text
    assert outcome.output == b""
    after = await bench.run(modules.SUM, "i32-array", struct.pack("<2i", 40, 2))
    assert (after.code, after.output) == ("ok", b"42")


async def test_a_module_can_use_its_memory_up_to_the_limit_and_no_more(bench: Bench) -> None:
    outcome = await bench.run(
        modules.range_module(
            """(i64.or
                 (i64.shl (i64.extend_i32_s (memory.grow (i32.const 15))) (i64.const 32))
                 (i64.and (i64.extend_i32_s (memory.grow (i32.const 1))) (i64.const 0xffff)))""",
            '(memory (export "memory") 1)',
        ),
        "range",
        b"0 1",
        memory_bytes=MIB,
    )
    assert outcome.output == b"%d" % (1 << 32 | 0xFFFF)
    assert outcome.peak_memory_bytes == MIB


async def test_a_stderr_flood_is_bounded_and_does_not_fail_the_shard(bench: Bench) -> None:
    outcome = await bench.run(STDERR_FLOOD, "wasi")
    assert (outcome.code, outcome.output) == ("ok", b"")


async def test_the_text_of_a_failed_command_is_the_end_of_its_stderr(bench: Bench) -> None:
    outcome = await bench.run(modules.says(2, "x" * 9000 + "the end", 1), "wasi")
    assert outcome.code == "exit: 1"
    assert outcome.text.endswith("the end")
    assert len(outcome.text) <= 4096


@pytest.mark.parametrize(
    ("module", "hint"),
    [
        (b"", "not a Wasm module"),
        (b"\x7fELF", "not a Wasm module"),
        (modules.SUM.encode(), "WAT text"),
        (b"  ;; a comment\n(module)", "WAT text"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\1\0\0\0\1\xff\xff\xff", "can't be compiled"),
    ],
)
async def test_bytes_that_are_no_module_are_refused(bench: Bench, module: bytes, hint: str) -> None:
    outcome = await bench.run(module, "range", b"0 1")
    assert outcome.code == "bad_module"
    assert hint in outcome.text
    with pytest.raises(SandboxError, match=hint) as refused:
        await bench.sandbox.inspect(module)
    assert refused.value.code == "bad_module"


async def test_a_truncated_module_is_refused(bench: Bench) -> None:
    wasm = await bench.wasm(modules.SUM)
    for length in range(9, len(wasm), 7):
        outcome = await bench.run(wasm[:length], "i32-array")
        assert outcome.code in ("bad_module", "bad_export"), (length, outcome)


async def test_bytes_with_another_hash_than_the_call_says_are_refused(bench: Bench) -> None:
    wasm, other = await bench.wasm(modules.SUM), await bench.wasm(modules.SPIN)
    outcome = await bench.sandbox.run(make_call(wasm, "i32-array"), b"", bench.loader(other))
    assert outcome.code == "bad_module"
    assert "hash" in outcome.text


async def test_a_module_over_the_size_limit_is_refused(new_sandbox: Any) -> None:
    bench = Bench(await new_sandbox(module_bytes_max=200))
    wasm = (await bench.wasm(modules.SUM)).ljust(201, b"\0")
    assert (await bench.run(wasm, "i32-array")).code == "bad_module"
    with pytest.raises(SandboxError, match="limit of 200"):
        await bench.sandbox.inspect(wasm)


def _leb(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _section(number: int, content: bytes) -> bytes:
    return bytes([number]) + _leb(len(content)) + content


def _giant_function(size_bytes: int) -> bytes:
    # Each repetition loads, multiplies and branches, so that the compiler has real work.
    step = bytes.fromhex("20004101 6a 2200 20006c 2100 0240 20000d00 0b".replace(" ", ""))
    body = b"\0" + step * (size_bytes // len(step)) + b"\x20\x00\x0b"
    return (
        b"\0asm\1\0\0\0"
        + _section(1, b"\1\x60\1\x7f\1\x7f")
        + _section(3, b"\1\0")
        + _section(7, b"\1\1f\0\0")
        + _section(10, b"\1" + _leb(len(body)) + body)
    )


def _many_exports(count: int) -> bytes:
    exports = b"".join(
        bytes([len(name)]) + name + b"\0\0" for name in (b"%d" % i for i in range(count))
    )
    return (
        b"\0asm\1\0\0\0"
        + _section(1, b"\1\x60\0\0")
        + _section(3, b"\1\0")
        + _section(7, _leb(count) + exports)
        + _section(10, b"\1\2\0\x0b")
    )


async def test_a_compile_bomb_is_stopped_and_remembered(new_sandbox: Any) -> None:
    sandbox: Sandbox = await new_sandbox(compile_time_s=0.5)
    bench = Bench(sandbox)
    bomb = _giant_function(2_000_000)
    outcome = await bench.run(bomb, "range", b"0 1")
    assert outcome.code == "compile_limit"
    loads = bench.loads
    assert (await bench.run(bomb, "range", b"0 1")).code == "compile_limit"
    assert bench.loads == loads
    with pytest.raises(SandboxError) as refused:
        await sandbox.inspect(bomb)
    assert refused.value.code == "compile_limit"
    assert (await bench.run(modules.SUM, "i32-array", bytes(4))).output == b"0"


async def test_a_compile_that_needs_too_much_memory_is_stopped(new_sandbox: Any) -> None:
    bench = Bench(await new_sandbox(compile_memory_bytes=16 * MIB))
    outcome = await bench.run(_giant_function(3_000_000), "range", b"0 1")
    assert outcome.code == "compile_limit"
    assert (await bench.run(modules.SUM, "i32-array", bytes(4))).output == b"0"


async def test_a_module_with_very_many_exports_is_refused(bench: Bench) -> None:
    outcome = await bench.run(_many_exports(100_000), "range", b"0 1")
    assert outcome.code == "bad_module"
    assert "exports 100000 items" in outcome.text


async def test_an_export_the_runtime_cannot_describe_is_refused(bench: Bench) -> None:
    # wasmtime's C interface aborts the process when asked for the type v128.
    v128 = '(module (func (export "f") (param v128) (result i64) (i64.const 0)))'
    outcome = await bench.run(v128, "range", b"0 1")
    assert outcome.code == "bad_module"
    assert "v128" in outcome.text


async def test_a_signed_file_that_is_not_native_code_is_recompiled(
    bench: Bench, new_sandbox: Any
) -> None:
    assert (await bench.run(modules.SUM, "i32-array", bytes(4))).code == "ok"
    await bench.sandbox.stop()
    again = Bench(await new_sandbox())
    cache = again.sandbox._cache
    (key,) = (path.stem for path in cache._directory.glob("*.native"))
    await cache.put(key, b"\x7fELF from another machine")
    assert (await again.run(modules.SUM, "i32-array", bytes(4))).output == b"0"
    assert again.sandbox.stats().compiled == 1
