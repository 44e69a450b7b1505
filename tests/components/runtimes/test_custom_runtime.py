"""A runtime that the owner brings, as docs/components/runtimes.md shows it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.runtimes import register_language
from swarm_hub.components.runtimes.languages import _languages
from swarm_hub.components.sandbox import SANDBOX
from tests.conftest import Swarm
from tests.helpers.commands import ONE_BUFFER, command
from tests.helpers.rest import call
from tests.helpers.snippets import code_of

COMPONENT = code_of("docs/components/runtimes.md", "python")
# Gives the shard back, whatever the program says.
ECHO = command(
    f"""{ONE_BUFFER}
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))""",
    pages=2,
)
BUILT_IN = "runtimes: {python: false, javascript: false}\n"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Languages are those of the whole process."""
    yield
    _languages.pop("lua", None)


async def test_a_program_is_run_by_the_one_of_the_page(swarm: Swarm, tmp_path: Path) -> None:
    first = await swarm.gateway("first")
    wasm = await first.hub.services[SANDBOX].sandbox.assemble(ECHO)
    home = tmp_path / "gateway" / "custom_components" / "lua"
    home.mkdir(parents=True)
    manifest = {
        "domain": "lua", "name": "Lua", "documentation": "README.md", "version": "1.0.0",
        "dependencies": ["runtimes"],
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(COMPONENT)
    (home / "lua.wasm").write_bytes(wasm)
    gateway = await swarm.gateway(extra=f"lua:\n{BUILT_IN}")
    await swarm.worker("worker", extra=BUILT_IN)
    async with SwarmClient(gateway.url, gateway.token) as client:
        job = await client.submit(
            b"", b"one\ntwo\n", script=("words.lua", b"-- any"), split="lines", reduce="concat"
        )
        assert await job.result() == b"one\ntwo\n"
    _, listed = await call(gateway, "GET", "/runtimes")
    assert "lua" in json.dumps(listed)


@pytest.mark.parametrize(
    ("name", "ending", "said"),
    [
        ("python", ".lua", "the runtime python is built in"),
        ("Lua", ".lua", "'Lua' is no name for a runtime"),
        ("lua", ".py", "programs that end with .py belong to python"),
    ],
)
def test_what_belongs_to_another_is_refused(
    tmp_path: Path, name: str, ending: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        register_language(name, endings=(ending,), path=tmp_path, sha256="0" * 64)
