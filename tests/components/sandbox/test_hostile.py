"""What is said of modules that are broken, flood or compile too long; more in tests/hostile."""

from typing import Any

import pytest

from swarm_hub.components.sandbox.call import SandboxError
from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers import commands, modules
from tests.helpers.sandboxes import MIB, Bench, make_call
from tests.helpers.wasm_bytes import giant_function, many_exports


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
    outcome = await bench.run(commands.STDERR_FLOOD, "wasi")
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


async def test_a_compile_bomb_is_stopped_and_remembered(new_sandbox: Any) -> None:
    sandbox: Sandbox = await new_sandbox(compile_time_s=0.5)
    bench = Bench(sandbox)
    bomb = giant_function(2_000_000)
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
    outcome = await bench.run(giant_function(3_000_000), "range", b"0 1")
    assert outcome.code == "compile_limit"
    assert (await bench.run(modules.SUM, "i32-array", bytes(4))).output == b"0"


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


async def test_a_module_with_very_many_exports_is_refused(bench: Bench) -> None:
    outcome = await bench.run(many_exports(100_000), "range", b"0 1")
    assert outcome.code == "bad_module"
    assert "exports 100000 items" in outcome.text
