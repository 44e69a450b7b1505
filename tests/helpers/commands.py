"""Commands (abi wasi) that abuse what WASI lends them."""

_SIGNATURES = {
    "args_get": "(param i32 i32) (result i32)",
    "environ_sizes_get": "(param i32 i32) (result i32)",
    "fd_allocate": "(param i32 i64 i64) (result i32)",
    "fd_close": "(param i32) (result i32)",
    "fd_filestat_set_size": "(param i32 i64) (result i32)",
    "fd_prestat_get": "(param i32 i32) (result i32)",
    "fd_pwrite": "(param i32 i32 i32 i64 i32) (result i32)",
    "fd_read": "(param i32 i32 i32 i32) (result i32)",
    "fd_renumber": "(param i32 i32) (result i32)",
    "fd_write": "(param i32 i32 i32 i32) (result i32)",
    "path_create_directory": "(param i32 i32 i32) (result i32)",
    "path_remove_directory": "(param i32 i32 i32) (result i32)",
    "path_open": "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
    "path_symlink": "(param i32 i32 i32 i32 i32) (result i32)",
    "poll_oneoff": "(param i32 i32 i32 i32) (result i32)",
    "proc_exit": "(param i32)",
    "proc_raise": "(param i32) (result i32)",
    "random_get": "(param i32 i32) (result i32)",
    "sched_yield": "(result i32)",
    "sock_accept": "(param i32 i32 i32) (result i32)",
    "sock_send": "(param i32 i32 i32 i32 i32) (result i32)",
}


def command(body: str, *, pages: int = 1, data: str = "") -> str:
    """A command with this body; functions of WASI are called by `$name`."""
    imports = "\n".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} {signature}))'
        for name, signature in _SIGNATURES.items()
        if f"${name}" in body
    )
    return f"""(module {imports}
      (memory (export "memory") {pages}) {data}
      (func (export "_start") (local $n i32) {body}))"""


def exits_with(result: str, *, pages: int = 1, data: str = "") -> str:
    """A command whose exit code is the number a function of WASI returned."""
    return command(f"(call $proc_exit {result})", pages=pages, data=data)


def forever(body: str, *, pages: int = 1, data: str = "") -> str:
    """A command that does this again and again."""
    return command(f"(loop $next {body} (br $next))", pages=pages, data=data)


# One buffer of 64 KiB at address 16.
ONE_BUFFER = "(i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 65536))"
WRITE_IT = "(drop (call $fd_write (i32.const {}) (i32.const 0) (i32.const 1) (i32.const 8)))"

STDOUT_FLOOD = command(f"{ONE_BUFFER} (loop $next {WRITE_IT.format(1)} (br $next))", pages=2)
# 200 times 64 KiB, then a normal end.
STDERR_FLOOD = command(
    f"""{ONE_BUFFER} (loop $next {WRITE_IT.format(2)}
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $n) (i32.const 200))))""",
    pages=2,
)
# One clock subscription, a hundred seconds.
SLEEPER = command(
    """(i64.store (i32.const 24) (i64.const 100000000000))
       (drop (call $poll_oneoff (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 256)))"""
)
# 2000 subscriptions of a hundred seconds each.
MANY_SLEEPS = command(
    """(loop $next
         (i64.store (i32.add (i32.mul (local.get $n) (i32.const 48)) (i32.const 24))
           (i64.const 100000000000))
         (local.set $n (i32.add (local.get $n) (i32.const 1)))
         (br_if $next (i32.lt_u (local.get $n) (i32.const 2000))))
       (drop (call $poll_oneoff
         (i32.const 0) (i32.const 131072) (i32.const 2000) (i32.const 130000)))""",
    pages=4,
)
PATH = '(data (i32.const 100) "../../../../etc/passwd")'


def opens(descriptor: int) -> str:
    """A command that tries to open a path below a descriptor it was never given."""
    return exits_with(
        f"""(call $path_open (i32.const {descriptor}) (i32.const 1) (i32.const 100)
          (i32.const 22) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8))""",
        data=PATH,
    )


def link(target: str, name: str) -> str:
    """A command that makes a symbolic link in /out."""
    return exits_with(
        f"""(call $path_symlink (i32.const 100) (i32.const {len(target)}) (i32.const 4)
          (i32.const 200) (i32.const {len(name)}))""",
        data=f'(data (i32.const 100) "{target}") (data (i32.const 200) "{name}")',
    )


# Makes d, d/d, d/d/d and so on in /out until that fails, then ends.
NESTED = command(
    """(loop $next
         (i32.store8 (i32.add (i32.const 100) (i32.mul (local.get $n) (i32.const 2)))
           (i32.const 100))
         (i32.store8 (i32.add (i32.const 101) (i32.mul (local.get $n) (i32.const 2)))
           (i32.const 47))
         (local.set $n (i32.add (local.get $n) (i32.const 1)))
         (br_if $next (i32.eqz (call $path_create_directory (i32.const 4) (i32.const 100)
           (i32.sub (i32.mul (local.get $n) (i32.const 2)) (i32.const 1))))))"""
)
# Removes /out itself.
REMOVES = exits_with(
    "(call $path_remove_directory (i32.const 4) (i32.const 100) (i32.const 1))",
    data='(data (i32.const 100) ".")',
)
