"""The hostile modules: what each is, and the code its shard has to end with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.helpers import commands as wasi
from tests.helpers import modules
from tests.helpers import wasm_bytes as made
from tests.helpers.sandboxes import MIB

Module = str | bytes

OUTSIDE = "trap: memory_out_of_bounds"

RECURSION = modules.range_module(
    "(call $deep (local.get $lo))",
    """(func $deep (param i64) (result i64)
         (i64.add (i64.const 1) (call $deep (i64.add (local.get 0) (i64.const 1)))))""",
)
INDIRECT_RECURSION = modules.range_module(
    "(call_indirect (param i64 i64) (result i64) (local.get 0) (local.get 1) (i32.const 0)) "
    "(i64.const 1) (i64.add)",
    "(table 1 funcref) (elem (i32.const 0) 0)",
)
# Each call has the wrong type and traps; the start function is such a call.
CONFUSED = modules.range_module(
    "(i64.extend_i32_s (call_indirect (result i32) (i32.const 0)))",
    "(table 1 funcref) (elem (i32.const 0) 0)",
)
START_LOOP = modules.range_module("(i64.const 0)", "(func $forever (loop (br 0))) (start $forever)")
START_TRAP = modules.range_module("(i64.const 0)", "(func $no (unreachable)) (start $no)")
INITIALIZE_LOOP = modules.range_module(
    "(i64.const 0)", '(func (export "_initialize") (loop (br 0)))'
)


def loop(body: str, extra: str = "") -> str:
    """A module whose `map` does this for ever."""
    return modules.range_module(f"(loop $next {body} (br $next)) (i64.const 0)", extra)


# Grows by a megabyte and touches it until it is refused, then traps as an allocator would.
GROW_AND_TOUCH = loop(
    """(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
       (memory.fill (i32.shl (i32.sub (memory.size) (i32.const 16)) (i32.const 16))
         (i32.const 1) (i32.const 1048576))""",
    "(memory 1)",
)
# Grows to what it can get, then touches every page from the last to the first, for ever.
TOUCH_IN_REVERSE = modules.range_module(
    """(local $at i32)
       (loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
       (loop $again
         (local.set $at (i32.shl (memory.size) (i32.const 16)))
         (loop $down
           (local.set $at (i32.sub (local.get $at) (i32.const 4096)))
           (i32.store (local.get $at) (local.get $at))
           (br_if $down (local.get $at)))
         (br $again))
       (i64.const 0)""",
    "(memory 1)",
)
GROW_BY_NOTHING = loop("(drop (memory.grow (i32.const 0)))", "(memory 1)")
GROW_TOO_FAR = loop("(drop (memory.grow (i32.const 65535)))", "(memory 1)")
TABLE_GROW = loop(
    """(if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))
         (then (unreachable)))""",
    "(table $t 1 funcref)",
)
TABLE_FILL = loop(
    "(table.fill $t (i32.const 0) (ref.null func) (i32.const 10000))", "(table $t 10000 funcref)"
)
BULK_FILL = loop("(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536))", "(memory 1)")
BULK_COPY = loop("(memory.copy (i32.const 1) (i32.const 0) (i32.const 65535))", "(memory 1)")
INIT_BEYOND = modules.range_module(
    "(memory.init $d (i32.const 65530) (i32.const 0) (i32.const 8)) (i64.const 0)",
    '(memory 1) (data $d "12345678")',
)
TABLE_INIT_BEYOND = modules.range_module(
    "(table.init $e (i32.const 9) (i32.const 0) (i32.const 2)) (i64.const 0)",
    "(table 10 funcref) (elem $e func 0 0)",
)
DATA_BEYOND = modules.range_module("(i64.const 0)", '(memory 1) (data (i32.const 65535) "ab")')
GC_BOMB = modules.range_module(
    """(local $last (ref null $node))
       (loop $next
         (local.set $last (struct.new $node (local.get $last) (i64.const 1)))
         (br $next))
       (i64.const 0)""",
    "(type $node (struct (field (ref null $node)) (field i64)))",
)
TAIL_CALL_LOOP = modules.range_module("(return_call 0 (local.get 0) (local.get 1))")
THROWS = modules.range_module("(throw $t)", "(tag $t)")
SHARED = modules.range_module(
    "(i64.extend_i32_s (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))",
    "(memory 1 1 shared)",
)
EXIT_ELSEWHERE = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "map") (param i64 i64) (result i64) (call $exit (i32.const 0)) (i64.const 1)))"""
WRONG_SIGNATURE = """(module (memory (export "memory") 1)
  (func (export "sum") (param i64) (result i32) (i32.const 1)))"""
UNKNOWN_WASI = '(import "wasi_snapshot_preview1" "proc_fork" (func))'
V128_EXPORT = '(module (func (export "f") (param v128) (result i64) (i64.const 0)))'


def truncated() -> bytes:
    whole = made.a_map()
    return whole[: len(whole) - 3]


@dataclass(frozen=True)
class Case:
    """A module and the code of its shard; `limits` are fields of the call or its limits."""

    name: str
    module: Module | Callable[[], Module]
    code: str
    abi: str = "range"
    limits: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Module:
        return self.module() if callable(self.module) else self.module


SHORT: dict[str, Any] = {"wall_time_s": 0.1}
FUEL: dict[str, Any] = {"fuel": 1_000_000}


def both(name: str, module: Module, abi: str = "range") -> list[Case]:
    """What never ends is stopped by the wall deadline, and by its fuel where that counts."""
    return [
        Case(name, module, "wall_time", abi, SHORT),
        Case(f"{name}, metered", module, "fuel", abi, FUEL),
    ]


ENDLESS = [
    *both("endless loop", modules.MAYBE_ENDLESS),
    *both("endless start", START_LOOP),
    *both("endless initialization", INITIALIZE_LOOP),
    *both("endless fill", BULK_FILL),
    *both("endless copy", BULK_COPY),
    *both("endless table fill", TABLE_FILL),
    *both("endless tail call", TAIL_CALL_LOOP),
    *both("endless jump by table", made.br_table_loop()),
    *both("endless growing by nothing", GROW_BY_NOTHING),
    *both("endless growing too far", GROW_TOO_FAR),
    *both("every page touched in reverse, again and again", TOUCH_IN_REVERSE),
    *both("endless calls of the host", wasi.forever("(drop (call $sched_yield ))"), "wasi"),
    Case("endless sleep", wasi.SLEEPER, "wall_time", "wasi", SHORT),
    Case("two thousand sleeps", wasi.MANY_SLEEPS, "wall_time", "wasi", SHORT),
    Case(
        "endless randomness",
        wasi.forever("(drop (call $random_get (i32.const 0) (i32.const 33554432)))", pages=512),
        "wall_time",
        "wasi",
        SHORT,
    ),
    Case(
        "endless randomness, deterministic",
        wasi.forever("(drop (call $random_get (i32.const 0) (i32.const 33554432)))", pages=512),
        "wall_time",
        "wasi",
        {**SHORT, "deterministic": True},
    ),
]

TRAPS = [
    Case("deep recursion", RECURSION, "trap: stack_overflow"),
    Case("deep recursion by table", INDIRECT_RECURSION, "trap: stack_overflow"),
    Case("wrong type by table", CONFUSED, "trap: bad_signature"),
    Case("start that traps", START_TRAP, "trap: unreachable"),
    Case("memory bomb", GROW_AND_TOUCH, "trap: unreachable", limits={"memory_bytes": 8 * MIB}),
    Case("table bomb", TABLE_GROW, "trap: unreachable"),
    Case("memory.init beyond", INIT_BEYOND, OUTSIDE),
    Case("table.init beyond", TABLE_INIT_BEYOND, "trap: table_out_of_bounds"),
    Case("data beyond the memory", DATA_BEYOND, OUTSIDE),
    Case(
        "division by zero",
        modules.range_module("(i64.div_s (local.get $hi) (i64.const 0))"),
        "trap: integer_division_by_zero",
    ),
    Case(
        "division overflow",
        modules.range_module("(i64.div_s (i64.const -9223372036854775808) (i64.const -1))"),
        "trap: integer_overflow",
    ),
    Case("unreachable", modules.range_module("(unreachable)"), "trap: unreachable"),
]

MEMORY = [
    Case("huge minimum", modules.range_module("(i64.const 0)", "(memory 65536)"), "memory"),
    Case("huge table", modules.range_module("(i64.const 0)", "(table 10000000 funcref)"), "memory"),
    Case("five tables", modules.range_module("(i64.const 0)", "(table 1 funcref)" * 5), "memory"),
    Case("a million elements", lambda: made.huge_element_segment(1_000_000), "memory"),
]

REFUSED = [
    Case("many memories", modules.range_module("(i64.const 0)", "(memory 1) " * 50), "bad_module"),
    Case("64-bit memory", modules.range_module("(i64.const 0)", "(memory i64 1)"), "bad_module"),
    Case("atomic wait", SHARED, "bad_module"),
    Case("garbage collector bomb", GC_BOMB, "bad_module"),
    Case("exceptions", THROWS, "bad_module"),
    Case(
        "foreign import",
        modules.range_module("(i64.const 0)", '(import "env" "system" (func (param i32)))'),
        "bad_module",
    ),
    Case("foreign memory", modules.range_module("(i64.const 0)", '(import "e" "m" (memory 1))'),
         "bad_module"),
    Case("unknown WASI function", modules.range_module("(i64.const 0)", UNKNOWN_WASI),
         "bad_module"),
    Case("WAT bytes", lambda: modules.SUM.encode(), "bad_module"),
    Case("truncated", truncated, "bad_module"),
    Case("bad UTF-8 name", made.bad_utf8, "bad_module"),
    Case("50,001 locals", lambda: made.many_locals(50_001), "bad_module"),
    Case("2^32 locals", lambda: made.many_locals(2**32 - 1), "bad_module"),
    Case("a million and one functions", lambda: made.many_functions(1_000_000), "bad_module"),
    Case("a million and one types", lambda: made.many_types(1_000_000), "bad_module"),
    Case("1001 parameters", lambda: made.wide_function(1001), "bad_module"),
    Case("300,000 exports", lambda: made.many_exports(300_000), "bad_module"),
    Case("very long names", lambda: made.long_names(200, 150_000), "bad_module"),
    Case("overlong number", made.overlong_number, "bad_module"),
    Case("a section twice", made.sections_twice, "bad_module"),
    Case("a custom section of 4 GB that is not there", lambda: made.lying_section(0, 2**32 - 1),
         "bad_module"),
    Case("4 billion functions that are not there", lambda: made.lying_vector(3, 2**32 - 1),
         "bad_module"),
    Case("4 billion data segments that are not there", lambda: made.lying_vector(11, 2**32 - 1),
         "bad_module"),
    Case("a type that can't be described", V128_EXPORT, "bad_module"),
    Case("a million data segments", lambda: made.many_data_segments(1_000_000), "bad_module"),
    Case("a million element segments", lambda: made.many_element_segments(1_000_000),
         "bad_module"),
    Case("jump with 500,000 targets", lambda: made.br_table(500_000), "bad_module"),
    Case("a million and one globals", lambda: made.many_globals(1_000_001), "bad_module"),
]  # fmt: skip

COMPILING = [
    Case("giant function", lambda: made.giant_function(2_000_000), "compile_limit"),
    Case("100,000 functions", lambda: made.many_functions(100_000), "compile_limit"),
    Case("locals and branches", made.locals_bomb, "compile_limit"),
]

EXPORTS = [
    Case("missing export", modules.SUM, "bad_export"),
    Case("missing entry", modules.SUM, "bad_export", "i32-array", {"entry": "main"}),
    Case("wrong signature", WRONG_SIGNATURE, "bad_export", "i32-array", {"entry": "sum"}),
    Case("a function called memory", made.memory_that_is_a_function, "bad_export", "i32-array"),
    Case("an entry that is a memory", modules.SUM, "bad_export", "range", {"entry": "memory"}),
]

RESULTS = [
    Case("result outside", modules.bytes_module("(i64.const 0x0000fff0_00000100)"),
         OUTSIDE, "bytes"),
    Case("result at the end of the address space",
         modules.bytes_module("(i64.const 0xffffffff_ffffffff)"),
         OUTSIDE, "bytes"),
    Case("result that goes round the end", modules.bytes_module("(i64.const 0xfffffff0_00000020)"),
         OUTSIDE, "bytes"),
    Case("alloc outside", modules.bytes_module("(i64.const 0)", alloc="(i32.const -1)"),
         OUTSIDE, "bytes"),
    Case("alloc that traps", modules.bytes_module("(i64.const 0)", alloc="(unreachable)"),
         "trap: unreachable", "bytes"),
    Case("alloc that never ends",
         modules.bytes_module("(i64.const 0)", alloc="(loop (br 0)) (i32.const 0)"),
         "wall_time", "bytes", SHORT),
    Case("large result", modules.bytes_module("(i64.const 1000)"), "output", "bytes",
         {"output_bytes": 999}),
]  # fmt: skip

COMMANDS = [
    Case("stdout flood", wasi.STDOUT_FLOOD, "output", "wasi"),
    Case("stdout over by one", modules.says(1, "abcdef", 0), "output", "wasi",
         {"output_bytes": 5}),
    Case("exit from another abi", EXIT_ELSEWHERE, "exit: 0"),
    Case("exit code beyond a byte", wasi.exits_with("(i32.const 1000)"), "exit: invalid", "wasi"),
    Case("exit code below zero", wasi.exits_with("(i32.const -1)"), "exit: invalid", "wasi"),
    # The numbers are WASI's: 8 badf, 21 fault, 48 nomem, 57 notsock, 58 notsup, 63 perm, 70 spipe.
    Case("the first directory there might be",
         wasi.exits_with("(call $fd_prestat_get (i32.const 3) (i32.const 0))"), "exit: 8", "wasi"),
    Case("path escape below no directory", wasi.opens(3), "exit: 8", "wasi"),
    Case("path escape below stdout", wasi.opens(1), "exit: 8", "wasi"),
    Case("symlink below no directory",
         wasi.exits_with("(call $path_symlink (i32.const 100) (i32.const 5) (i32.const 3) "
                         "(i32.const 100) (i32.const 5))", data=wasi.PATH), "exit: 8", "wasi"),
    Case("accept on stdin",
         wasi.exits_with("(call $sock_accept (i32.const 0) (i32.const 0) (i32.const 8))"),
         "exit: 57", "wasi"),
    Case("send on stdout",
         wasi.exits_with("(call $sock_send (i32.const 1) (i32.const 0) (i32.const 0) "
                         "(i32.const 0) (i32.const 8))"), "exit: 57", "wasi"),
    Case("signal", wasi.exits_with("(call $proc_raise (i32.const 9))"), "exit: 58", "wasi"),
    Case("randomness of 4 GB", wasi.exits_with("(call $random_get (i32.const 0) (i32.const -1))"),
         "trap: host", "wasi"),
    Case("randomness of 4 GB, deterministic",
         wasi.exits_with("(call $random_get (i32.const 0) (i32.const -1))"), "exit: 21", "wasi",
         {"deterministic": True}),
    Case("arguments outside",
         wasi.exits_with("(call $args_get (i32.const -4) (i32.const -4))"), OUTSIDE, "wasi",
         {"args": ("a", "b" * 1000)}),
    Case("sizes of the environment outside",
         wasi.exits_with("(call $environ_sizes_get (i32.const 65535) (i32.const -1))"), OUTSIDE,
         "wasi"),
    Case("buffer of a write outside",
         wasi.command("(i32.store (i32.const 0) (i32.const -16)) "
                      "(i32.store (i32.const 4) (i32.const 4096)) "
                      "(call $proc_exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) "
                      "(i32.const 8)))"), OUTSIDE, "wasi"),
    Case("four billion buffers",
         wasi.exits_with("(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) "
                         "(i32.const 8))"), "exit: 48", "wasi"),
    Case("buffer of a read over its own list",
         wasi.command("(i32.store (i32.const 0) (i32.const 0)) "
                      "(i32.store (i32.const 4) (i32.const 65536)) "
                      "(call $proc_exit (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) "
                      "(i32.const 8)))"), "ok", "wasi"),
    Case("a pointer between words",
         wasi.exits_with("(call $environ_sizes_get (i32.const 1) (i32.const 2))"), "trap: host",
         "wasi"),
    Case("a file of a terabyte",
         wasi.exits_with("(call $fd_filestat_set_size (i32.const 1) (i64.const 1099511627776))"),
         "exit: 8", "wasi"),
    Case("room for a terabyte",
         wasi.exits_with("(call $fd_allocate (i32.const 1) (i64.const 0) "
                         "(i64.const 1099511627776))"), "exit: 8", "wasi"),
    Case("a write a terabyte in",
         wasi.command("(i32.store (i32.const 4) (i32.const 100)) "
                      "(call $proc_exit (call $fd_pwrite (i32.const 1) (i32.const 0) "
                      "(i32.const 1) (i64.const 1099511627776) (i32.const 8)))"),
         "exit: 70", "wasi"),
    Case("stdin in the place of stdout",
         wasi.exits_with("(call $fd_renumber (i32.const 0) (i32.const 1))"), "ok", "wasi"),
]  # fmt: skip

# Descriptor 3 is /in, which can only be read, and 4 is /out.
FILES = [
    Case("path escape from /in", wasi.opens(3), "exit: 63", "wasi-files"),
    Case("path escape from /out", wasi.opens(4), "exit: 63", "wasi-files"),
    Case("path escape below no third directory", wasi.opens(5), "exit: 8", "wasi-files"),
    Case("link out of /out", wasi.link("/etc/passwd", "a"), "exit: 63", "wasi-files"),
    Case("link within /out", wasi.link("b", "a"), "exit: 63", "wasi-files"),
    Case("link in /out to above", wasi.link("../../..", "a"), "exit: 63", "wasi-files"),
    Case("directories without end", wasi.NESTED, "output", "wasi-files"),
    Case("removing /out itself", wasi.REMOVES, "exit: 28", "wasi-files"),
]

# Odd but within the rules: these are run.
ALLOWED = [
    Case("stderr flood", wasi.STDERR_FLOOD, "ok", "wasi"),
    Case("custom section of 50 MB", lambda: made.large_custom_section(50 * MIB), "ok"),
    Case("a million empty sections", lambda: made.many_empty_sections(1_000_000), "ok"),
    Case("a name of 100 MB that is not there", lambda: made.lying_name_section(100 * MIB), "ok"),
    Case("padded number", made.padded_number, "ok"),
    Case("blocks 10,000 deep", lambda: made.nested_blocks(10_000), "ok"),
    Case("jump with 60,000 targets", lambda: made.br_table(60_000), "ok"),
    Case("1000 parameters and results", lambda: made.wide_function(1000), "ok"),
    Case("100,000 globals", lambda: made.many_globals(100_000), "ok"),
    Case("100,000 data segments", lambda: made.many_data_segments(100_000), "ok"),
    Case("100,000 element segments", lambda: made.many_element_segments(100_000), "ok"),
    Case("a million types but one", lambda: made.many_types(999_998), "ok"),
    Case("overlapping result", modules.bytes_module("(i64.const 0x00000040_00000008)"), "ok",
         "bytes"),
]  # fmt: skip

CASES = [
    *ENDLESS, *TRAPS, *MEMORY, *REFUSED, *COMPILING, *EXPORTS, *RESULTS, *COMMANDS, *FILES,
    *ALLOWED,
]  # fmt: skip
