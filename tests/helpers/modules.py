"""The modules of the tests, as WAT."""

SUM = """(module
  (memory (export "memory") 1)
  (func (export "sum") (param $at i32) (param $left i32) (result i32) (local $sum i32)
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $left)))
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $next)))
    (local.get $sum)))"""

# Runs hi - lo million iterations, so a test can choose how long a shard takes.
SPIN = """(module
  (func (export "map") (param $lo i64) (param $hi i64) (result i64) (local $left i64)
    (local.set $left
      (i64.mul (i64.sub (local.get $hi) (local.get $lo)) (i64.const 1000000)))
    (block $done (loop $next
      (br_if $done (i64.eqz (local.get $left)))
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br $next)))
    (i64.sub (local.get $hi) (local.get $lo))))"""

# Loops for ever if lo is 1, else returns hi.
MAYBE_ENDLESS = """(module
  (func (export "map") (param $lo i64) (param $hi i64) (result i64)
    (loop $again (br_if $again (i64.eq (local.get $lo) (i64.const 1))))
    (local.get $hi)))"""

# For the abi `f64`, which no hub has before somebody adds it.
HALVES = """(module (func (export "half") (param f64) (result f64)
  (f64.div (local.get 0) (f64.const 2))))"""

# A command that copies stdin to stdout in pieces of 4 KiB.
CAT = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $next
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $next))))"""


# The same, but a piece with an X in it makes it say so on stderr and exit.
CAT_BUT_X = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "bad row: price is empty")
  (func (export "_start") (local $at i32)
    (loop $next
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
      (local.set $at (i32.load (i32.const 8)))
      (loop $byte
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (if (i32.eq (i32.load8_u offset=1024 (local.get $at)) (i32.const 88)) (then
          (i32.store (i32.const 0) (i32.const 100))
          (i32.store (i32.const 4) (i32.const 23))
          (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
          (call $exit (i32.const 3))))
        (br_if $byte (local.get $at)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $next))))"""


def says(descriptor: int, text: str, exit_code: int) -> str:
    """A command that writes a text to stdout or stderr and exits."""
    return f"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "{text}")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const {len(text)}))
    (drop (call $write (i32.const {descriptor}) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const {exit_code}))))"""


def range_module(body: str, extra: str = "") -> str:
    """A module of abi range with this body of `map`."""
    return f"""(module {extra}
  (func (export "map") (param $lo i64) (param $hi i64) (result i64) {body}))"""


def bytes_module(result: str, alloc: str = "(i32.const 64)") -> str:
    """A module of abi bytes that returns this i64."""
    return f"""(module (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) {alloc})
  (func (export "map") (param $at i32) (param $n i32) (result i64) {result}))"""


def joins(before: str = "", before_map: str = "") -> str:
    """A module of abi bytes that gives its shard back, and whose `reduce` joins with a comma.

    `before` is what `reduce` does first, `before_map` what `map` does.
    """
    return f"""(module (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 64))
  (func $alloc (export "alloc") (param $n i32) (result i32)
    (global.get $top)
    (global.set $top (i32.add (global.get $top) (local.get $n))))
  (func $packed (param $at i32) (param $n i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32))
            (i64.extend_i32_u (local.get $n))))
  (func (export "map") (param i32 i32) (result i64)
    {before_map}
    (call $packed (local.get 0) (local.get 1)))
  (func (export "reduce") (param $a i32) (param $n i32) (param $b i32) (param $m i32) (result i64)
    (local $out i32) (local $left i64)
    {before}
    (local.set $out (call $alloc (i32.add (i32.add (local.get $n) (local.get $m)) (i32.const 1))))
    (memory.copy (local.get $out) (local.get $a) (local.get $n))
    (i32.store8 (i32.add (local.get $out) (local.get $n)) (i32.const 44))
    (memory.copy
      (i32.add (i32.add (local.get $out) (local.get $n)) (i32.const 1))
      (local.get $b) (local.get $m))
    (call $packed
      (local.get $out) (i32.add (i32.add (local.get $n) (local.get $m)) (i32.const 1)))))"""


# Traps on a shard that begins with an X.
JOINS_BUT_X = joins(
    before_map="(if (i32.eq (i32.load8_u (local.get 0)) (i32.const 88)) (then unreachable))"
)

# About half a second.
_SLOWLY = """(local.set $left (i64.const 500000000))
    (loop $next
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $next (i64.ne (local.get $left) (i64.const 0))))"""

JOINS = joins()
JOINS_SLOWLY = joins(_SLOWLY)
JOINS_BADLY = joins("unreachable")

_FILE_IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (func $must (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  ;; Opens a file below directory 3 (/in) or 4 (/out) for reading, or to be made and written.
  (func $opened (param $dir i32) (param $name i32) (param $n i32) (param $make i32) (result i32)
    (call $must (call $open (local.get $dir) (i32.const 0) (local.get $name) (local.get $n)
      (i32.mul (local.get $make) (i32.const 9))
      (select (i64.const 0x40) (i64.const 0x02) (local.get $make)) (i64.const 0)
      (i32.const 0) (i32.const 16)))
    (i32.load (i32.const 16)))"""


def files_command(body: str, extra: str = "") -> str:
    """A command of abi wasi-files with this body of `_start`; `$must` exits with an errno."""
    return f'(module {_FILE_IMPORTS} {extra} (func (export "_start") {body}))'


# Copies every file under /in to /out; each has at most 64 KiB.
COPY_FILES = files_command(
    """(local $at i32) (local $end i32) (local $n i32) (local $from i32) (local $to i32)
    (call $must (call $readdir (i32.const 3) (i32.const 1024) (i32.const 32768) (i64.const 0)
      (i32.const 8)))
    (local.set $at (i32.const 1024))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 8))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $n (i32.load offset=16 (local.get $at)))
      ;; 4 is a regular file; `.` and `..` are directories.
      (if (i32.eq (i32.load8_u offset=20 (local.get $at)) (i32.const 4)) (then
        (local.set $from (call $opened
          (i32.const 3) (i32.add (local.get $at) (i32.const 24)) (local.get $n) (i32.const 0)))
        (i32.store (i32.const 0) (i32.const 65536))
        (i32.store (i32.const 4) (i32.const 65536))
        (call $must (call $read (local.get $from) (i32.const 0) (i32.const 1) (i32.const 4)))
        (call $must (call $close (local.get $from)))
        (local.set $to (call $opened
          (i32.const 4) (i32.add (local.get $at) (i32.const 24)) (local.get $n) (i32.const 1)))
        (call $must (call $write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $must (call $close (local.get $to)))))
      (local.set $at (i32.add (i32.add (local.get $at) (i32.const 24)) (local.get $n)))
      (br $next)))"""
)

# Makes files of 64 KiB for ever, each with a name of its own.
FLOOD_FILES = files_command(
    """(local $file i32) (local $count i32)
    (loop $next
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      ;; Names are eight letters from a to p, one for each half of a byte.
      (i64.store (i32.const 108) (i64.or (i64.const 0x6161616161616161)
        (i64.and (i64.const 0x0f0f0f0f) (i64.extend_i32_u (local.get $count)))))
      (i64.store offset=4 (i32.const 108) (i64.or (i64.const 0x6161616161616161)
        (i64.and (i64.const 0x0f0f0f0f)
          (i64.extend_i32_u (i32.shr_u (local.get $count) (i32.const 4))))))
      (local.set $file (call $opened (i32.const 4) (i32.const 108) (i32.const 8) (i32.const 1)))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 65536))
      (call $must (call $write (local.get $file) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $must (call $close (local.get $file)))
      (br $next))"""
)

# Directories in directories: a/a/a/… until a path is too long.
NEST_DIRECTORIES = files_command(
    """(local $n i32)
    (block $done (loop $next
      (i32.store8 (i32.add (i32.const 1024) (local.get $n)) (i32.const 97))
      (i32.store8 (i32.add (i32.const 1025) (local.get $n)) (i32.const 47))
      (br_if $done (call $mkdir (i32.const 4) (i32.const 1024)
        (i32.add (local.get $n) (i32.const 1))))
      (local.set $n (i32.add (local.get $n) (i32.const 2)))
      (br $next)))"""
)


def link_command(target: str) -> str:
    """A command that leaves a symbolic link to there as its only result."""
    return files_command(
        f"""(call $must (call $symlink (i32.const 100) (i32.const {len(target)}) (i32.const 4)
              (i32.const 200) (i32.const 4)))""",
        f'(data (i32.const 100) "{target}") (data (i32.const 200) "link")',
    )


def open_command(directory: int, name: str, *, make: bool) -> str:
    """A command that opens one file below /in (3) or /out (4), or exits with the errno."""
    return files_command(
        f"""(drop (call $opened (i32.const {directory}) (i32.const 100) (i32.const {len(name)})
              (i32.const {int(make)})))""",
        f'(data (i32.const 100) "{name}")',
    )


# Interprets a program in Brainfuck: its path is the first argument, and lies under /script, the
# only directory. `,` gives 0 at the end of stdin. Without a second argument.
BRAINFUCK = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 5)
  (func $must (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  ;; Moves over a loop: by 1 from its `[` to its `]`, by -1 back.
  (func $over (param $at i32) (param $by i32) (result i32) (local $depth i32) (local $op i32)
    (loop $next
      (local.set $op (i32.load8_u (local.get $at)))
      (if (i32.eq (local.get $op) (i32.const 91))
        (then (local.set $depth (i32.add (local.get $depth) (i32.const 1)))))
      (if (i32.eq (local.get $op) (i32.const 93))
        (then (local.set $depth (i32.sub (local.get $depth) (i32.const 1)))))
      (if (i32.eqz (local.get $depth)) (then (return (local.get $at))))
      (local.set $at (i32.add (local.get $at) (local.get $by)))
      (br $next))
    unreachable)
  (func (export "_start") (local $path i32) (local $n i32) (local $at i32) (local $end i32)
    (local $op i32) (local $cell i32)
    (call $must (call $sizes (i32.const 0) (i32.const 4)))
    (call $must (call $args (i32.const 16) (i32.const 1024)))
    ;; "/script/" has 8 characters.
    (local.set $path (i32.add (i32.load (i32.const 20)) (i32.const 8)))
    (loop $next (if (i32.load8_u (i32.add (local.get $path) (local.get $n))) (then
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $next))))
    (call $must (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $n)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 65536))
    (call $must (call $read (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))
    (local.set $at (i32.const 65536))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 12))))
    (local.set $cell (i32.const 131072))
    ;; Each byte goes through an iovec of one byte.
    (i32.store (i32.const 4) (i32.const 1))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $op (i32.load8_u (local.get $at)))
      (if (i32.eq (local.get $op) (i32.const 62))
        (then (local.set $cell (i32.add (local.get $cell) (i32.const 1)))))
      (if (i32.eq (local.get $op) (i32.const 60))
        (then (local.set $cell (i32.sub (local.get $cell) (i32.const 1)))))
      (if (i32.eq (local.get $op) (i32.const 43)) (then (i32.store8 (local.get $cell)
        (i32.add (i32.load8_u (local.get $cell)) (i32.const 1)))))
      (if (i32.eq (local.get $op) (i32.const 45)) (then (i32.store8 (local.get $cell)
        (i32.sub (i32.load8_u (local.get $cell)) (i32.const 1)))))
      (if (i32.eq (local.get $op) (i32.const 46)) (then
        (i32.store (i32.const 0) (local.get $cell))
        (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))
      (if (i32.eq (local.get $op) (i32.const 44)) (then
        (i32.store8 (local.get $cell) (i32.const 0))
        (i32.store (i32.const 0) (local.get $cell))
        (call $must (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 12)))))
      (if (i32.and (i32.eq (local.get $op) (i32.const 91))
                   (i32.eqz (i32.load8_u (local.get $cell))))
        (then (local.set $at (call $over (local.get $at) (i32.const 1)))))
      (if (i32.and (i32.eq (local.get $op) (i32.const 93))
                   (i32.ne (i32.load8_u (local.get $cell)) (i32.const 0)))
        (then (local.set $at (call $over (local.get $at) (i32.const -1)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))))"""

# Prints its first argument.
SAYS_ARGUMENT = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32) (local $n i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 16) (i32.const 1024)))
    (local.set $at (i32.load (i32.const 20)))
    (loop $next (if (i32.load8_u (i32.add (local.get $at) (local.get $n))) (then
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $next))))
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $n))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
