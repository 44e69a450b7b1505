"""Each ABI hands a shard in, takes the result back and refuses what does not fit."""

import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from swarm_hub.components.sandbox import Sandbox
from tests.helpers import modules
from tests.helpers.sandboxes import EXAMPLES, MIB, Bench


async def test_i32_array_gets_packed_integers_at_address_0(bench: Bench) -> None:
    outcome = await bench.run(modules.SUM, "i32-array", struct.pack("<4i", 1, 2, 3, -18))
    assert (outcome.code, outcome.output) == ("ok", b"-12")


async def test_i32_array_gives_a_module_without_a_memory_the_length_alone(bench: Bench) -> None:
    module = """(module (func (export "f") (param i32 i32) (result i32)
      (i32.add (i32.mul (local.get 0) (i32.const 100)) (local.get 1))))"""
    outcome = await bench.run(module, "i32-array", bytes(12))
    assert (outcome.code, outcome.output) == ("ok", b"3")


async def test_i32_array_grows_the_memory_for_a_large_shard(bench: Bench) -> None:
    outcome = await bench.run(modules.SUM, "i32-array", struct.pack("<i", 1) * 500_000)
    assert outcome.output == b"500000"
    assert outcome.peak_memory_bytes is not None
    assert 2_000_000 <= outcome.peak_memory_bytes < 2_100_000


async def test_i32_array_refuses_a_length_that_is_not_a_multiple_of_4(bench: Bench) -> None:
    outcome = await bench.run(modules.SUM, "i32-array", b"12345")
    assert outcome.code == "bad_input"
    assert "multiple of 4" in outcome.text


async def test_an_input_larger_than_the_memory_limit_is_named_as_such(bench: Bench) -> None:
    outcome = await bench.run(modules.SUM, "i32-array", bytes(2 * MIB), memory_bytes=MIB)
    assert outcome.code == "memory"
    assert "smaller shards" in outcome.text


@pytest.mark.parametrize(
    ("data", "output"),
    [
        (b"0 10", b"10"),
        (b"-5 5\n", b"10"),
        (b"-9223372036854775808 9223372036854775807", b"-1"),
    ],
)
async def test_range_passes_two_signed_64_bit_integers(
    bench: Bench, data: bytes, output: bytes
) -> None:
    difference = modules.range_module("(i64.sub (local.get $hi) (local.get $lo))")
    outcome = await bench.run(difference, "range", data)
    assert (outcome.code, outcome.output) == ("ok", output)


@pytest.mark.parametrize("data", [b"", b"1", b"1 2 3", b"a b", b"0 9223372036854775808", b" " * 99])
async def test_range_refuses_text_that_is_not_a_range(bench: Bench, data: bytes) -> None:
    outcome = await bench.run(modules.SPIN, "range", data)
    assert outcome.code == "bad_input"


async def test_bytes_returns_what_the_module_points_at(bench: Bench) -> None:
    # The upper half of what alloc got: address + n / 2, n - n / 2.
    half = modules.bytes_module(
        """(i64.or
             (i64.shl (i64.extend_i32_u
               (i32.add (local.get $at) (i32.shr_u (local.get $n) (i32.const 1))))
               (i64.const 32))
             (i64.extend_i32_u
               (i32.sub (local.get $n) (i32.shr_u (local.get $n) (i32.const 1)))))"""
    )
    outcome = await bench.run(half, "bytes", b"discarded kept")
    assert outcome.output == b"ed kept"
    assert (await bench.run(half, "bytes", b"")).output == b""


async def test_wasi_reads_stdin_and_returns_stdout(bench: Bench) -> None:
    data = os.urandom(900_000)
    outcome = await bench.run(modules.CAT, "wasi", data)
    assert outcome.code == "ok"
    assert outcome.output == data


async def test_wasi_sees_nothing_of_an_earlier_shard(bench: Bench) -> None:
    assert (await bench.run(modules.CAT, "wasi", b"a long first input")).code == "ok"
    assert (await bench.run(modules.CAT, "wasi", b"short")).output == b"short"


@pytest.mark.parametrize("module", ["cat", "echo"])
async def test_large_shards_see_nothing_of_each_other(bench: Bench, module: str) -> None:
    text, abi = (
        (modules.CAT, "wasi")
        if module == "cat"
        else ((EXAMPLES / "echo" / "echo.wat").read_text(), "bytes")
    )
    # Each is read into the memory of the one before; one that is shorter, too.
    for fill, size in ((b"a", 300_000), (b"b", 200_000), (b"c", 400_000), (b"d", 5)):
        assert (await bench.run(text, abi, fill * size)).output == fill * size


async def test_wasi_exit_code_is_a_failure_with_stderr_as_its_text(bench: Bench) -> None:
    outcome = await bench.run(modules.says(2, "no such word", 3), "wasi")
    assert (outcome.code, outcome.text) == ("exit: 3", "no such word")


async def test_wasi_exit_code_0_is_a_success(bench: Bench) -> None:
    outcome = await bench.run(modules.says(1, "fine", 0), "wasi")
    assert (outcome.code, outcome.output) == ("ok", b"fine")


async def test_wasi_gets_its_arguments_and_environment_and_nothing_else(bench: Bench) -> None:
    # Copies the argument block, or the environment block, to stdout.
    def block(what: str) -> str:
        return f"""(module
  (import "wasi_snapshot_preview1" "{what}_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "{what}_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 16) (i32.const 4)))
    (drop (call $get (i32.const 32) (i32.const 1024)))
    (i32.store (i32.const 0) (i32.const 1024))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""

    arguments = await bench.run(block("args"), "wasi", args=("-n", "ü"))
    assert arguments.output.decode().split("\0") == ["module", "-n", "ü", ""]
    environment = await bench.run(block("environ"), "wasi", env=(("LANG", "C"),))
    assert environment.output == b"LANG=C\0"


async def test_an_argument_with_a_nul_is_refused(bench: Bench) -> None:
    outcome = await bench.run(modules.CAT, "wasi", args=("a\0b",))
    assert outcome.code == "bad_input"


async def test_wasi_has_no_directories(bench: Bench) -> None:
    # Returns the errno of fd_prestat_get(3) as the exit code; 8 is "bad descriptor".
    prestat = """(module
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (call $prestat (i32.const 3) (i32.const 0)))))"""
    assert (await bench.run(prestat, "wasi")).code == "exit: 8"


async def test_a_path_outside_is_not_reachable(bench: Bench) -> None:
    # Tries path_open("../../etc/passwd") on every low descriptor; exits 0 only if one opens.
    escape = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "../../etc/passwd")
  (func (export "_start") (local $fd i32)
    (loop $next
      (if (i32.eqz (call $open (local.get $fd) (i32.const 1) (i32.const 64) (i32.const 16)
            (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)))
        (then (return)))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $fd) (i32.const 16))))
    (call $exit (i32.const 1))))"""
    assert (await bench.run(escape, "wasi")).code == "exit: 1"


async def test_a_reactor_is_initialized_before_its_entry_is_called(bench: Bench) -> None:
    reactor = """(module (global $ready (mut i64) (i64.const 0))
  (func (export "_initialize") (global.set $ready (i64.const 7)))
  (func (export "map") (param i64 i64) (result i64) (global.get $ready)))"""
    assert (await bench.run(reactor, "range", b"0 1")).output == b"7"


async def test_shards_do_not_share_state(bench: Bench) -> None:
    counter = modules.range_module(
        """(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
           (global.get $calls)""",
        "(global $calls (mut i64) (i64.const 0))",
    )
    outputs = [(await bench.run(counter, "range", b"0 1")).output for _ in range(3)]
    assert outputs == [b"1"] * 3


async def test_an_entry_is_needed_when_several_fit(bench: Bench) -> None:
    two = """(module
  (func (export "twice") (param i64 i64) (result i64) (i64.const 2))
  (func (export "thrice") (param i64 i64) (result i64) (i64.const 3)))"""
    outcome = await bench.run(two, "range", b"0 1")
    assert outcome.code == "bad_export"
    assert "twice, thrice" in outcome.text
    assert (await bench.run(two, "range", b"0 1", entry="thrice")).output == b"3"


async def test_fuel_counts_repeat_exactly_and_run_out(bench: Bench) -> None:
    first = await bench.run(modules.SPIN, "range", b"0 1", fuel=100_000_000)
    second = await bench.run(modules.SPIN, "range", b"0 1", fuel=100_000_000)
    assert first.code == "ok"
    assert first.fuel is not None
    assert first.fuel == second.fuel > 1_000_000
    short = await bench.run(modules.SPIN, "range", b"0 1", fuel=first.fuel // 2)
    assert short.code == "fuel"


async def test_without_a_fuel_limit_nothing_is_metered(bench: Bench) -> None:
    assert (await bench.run(modules.SPIN, "range", b"0 1")).fuel is None
    assert (await bench.run(modules.SPIN, "range", b"0 1", fuel=0)).code == "fuel"


async def test_a_deterministic_job_sees_the_same_clock_and_randomness(bench: Bench) -> None:
    sources = """(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $now (i32.const 0) (i64.const 1) (i32.const 64)))
    (drop (call $random (i32.const 72) (i32.const 24)))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 32))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
    fixed = {(await bench.run(sources, "wasi", deterministic=True)).output for _ in range(3)}
    free = {(await bench.run(sources, "wasi")).output for _ in range(3)}
    assert len(fixed) == 1
    assert len(free) == 3
    assert {len(output) for output in fixed | free} == {32}


async def test_a_bad_address_from_a_deterministic_module_is_an_errno(bench: Bench) -> None:
    faulty = """(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (call $random (i32.const 65530) (i32.const 100)))))"""
    assert (await bench.run(faulty, "wasi", deterministic=True)).code == "exit: 21"


async def test_an_unknown_abi_names_the_known_ones(bench: Bench) -> None:
    outcome = await bench.run(modules.SUM, "cobol")
    assert outcome.code == "bad_input"
    assert "wasi, bytes, range, i32-array" in outcome.text


async def test_a_command_that_ends_well_is_heard_too(bench: Bench) -> None:
    outcome = await bench.run(modules.says(2, "3 lines skipped", 0), "wasi")
    assert (outcome.code, outcome.text) == ("ok", "3 lines skipped")


TRAPS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "half way")
  (func {name} unreachable)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call 1)))"""


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("$give_up", "give_up"),
        ('(@name "")', "function 1"),
        ('(@name "a\\nb")', "function 1"),
        (f'(@name "{"n" * 81}")', "function 1"),
    ],
)
async def test_a_trap_tells_its_function_and_what_was_said_before(
    bench: Bench, name: str, place: str
) -> None:
    outcome = await bench.run(TRAPS.format(name=name), "wasi")
    assert outcome.code == f"trap: unreachable at {place}"
    assert outcome.text.endswith("Its stderr: half way")


async def test_two_machines_agree_on_nan_and_on_fuel_where_a_job_is_deterministic(
    new_sandbox: Callable[..., Awaitable[Sandbox]], tmp_path: Path
) -> None:
    # A NaN with a payload of its own goes through an addition; its bits are the result.
    nan = modules.range_module(
        """(i64.reinterpret_f64 (f64.add
             (f64.reinterpret_i64 (i64.const 0x7ff4deadbeef0001))
             (f64.convert_i64_s (local.get $lo))))"""
    )
    outcomes = []
    for name in ("one", "two"):
        bench = Bench(await new_sandbox(cache_dir=tmp_path / name))
        outcomes += [await bench.run(nan, "range", b"1 2", deterministic=True) for _ in range(2)]
    assert {outcome.output for outcome in outcomes} == {b"%d" % 0x7FF8000000000000}
    assert len({outcome.fuel for outcome in outcomes}) == 1
    assert outcomes[0].fuel
    free = await Bench(await new_sandbox(cache_dir=tmp_path / "free")).run(nan, "range", b"1 2")
    assert free.output != outcomes[0].output


async def test_a_command_with_more_data_than_its_output_may_have_is_not_taken_for_a_flood(
    bench: Bench,
) -> None:
    # wasmtime keeps the initial content of a memory in a file, which the bound on output cut.
    large = modules.says(1, "x", 0).replace(
        "(data (i32.const 100)", f'(data (i32.const 1000) "{"a" * 50_000}") (data (i32.const 100)'
    )
    outcome = await bench.run(large, "wasi", output_bytes=100)
    assert (outcome.code, outcome.output) == ("ok", b"x")


async def test_a_command_without_imports_does_not_end_with_the_output_of_another(
    bench: Bench,
) -> None:
    secret = await bench.run(modules.CAT, "wasi", b"the secret of another job")
    assert secret.output
    outcome = await bench.run('(module (func (export "_start")))', "wasi", b"mine")
    assert (outcome.code, outcome.output) == ("ok", b"")
