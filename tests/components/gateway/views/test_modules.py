"""POST /modules/inspect says what `swarm-hub inspect` says."""

import asyncio
from typing import Any

import pytest

from swarm_hub.components.gateway.submission.intake import Intake
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.modules import SUM
from tests.helpers.rest import call, form

Modules = dict[str, bytes]


async def inspect(hub: RunningHub, body: Any) -> tuple[int, Any]:
    return await call(hub, "POST", "/modules/inspect", data=body)


async def test_a_module_is_described_in_each_form_it_may_be_sent_in(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    code, said = await inspect(gateway, modules["sum"])
    assert (code, said["sha256"]) == (200, sha256_hex(modules["sum"]))
    assert said["abis"] == [{"abi": "i32-array", "entries": ["sum"]}]
    assert {"name": "memory", "kind": "memory", "type": "1.. pages"} in said["exports"]
    assert said["refused"] is None
    assert await inspect(gateway, form(modules["sum"])) == (code, said)
    code, said = await inspect(gateway, SUM.encode())
    assert (code, said["abis"][0]["abi"]) == (200, "i32-array")
    foreign = b'(module (import "env" "abort" (func)))'
    code, said = await inspect(gateway, foreign)
    assert (code, said["abis"]) == (200, [])
    assert "env.abort" in said["refused"]


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        (b"", 400, "no_module"),
        (b"\0asm\1\0\0\0\xff", 422, "bad_module"),
        (b"print(1)", 422, "bad_module"),
        (b"(module (func", 422, "bad_module"),
        (b"(module \xff)", 422, "bad_module"),
        (b"\0asm\1\0\0\0" + bytes(100_000), 413, "module_too_large"),
        (b";;" + b" " * 100_000, 413, "module_too_large"),
    ],
)
async def test_what_is_no_module_is_refused(
    swarm: Swarm, body: bytes, code: int, word: str
) -> None:
    gateway = await swarm.gateway(extra="sandbox: {module: 64KiB}\n")
    answer = await inspect(gateway, body)
    assert (answer[0], answer[1]["code"]) == (code, word), answer


async def test_a_form_of_other_parts_is_refused(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway(extra="sandbox: {module: 64KiB}\n")
    for made, code, word in (
        (form(modules["sum"], b"x"), 400, "bad_multipart"),
        (form(bytes(100_000)), 413, "module_too_large"),
    ):
        answer = await inspect(gateway, made)
        assert (answer[0], answer[1]["code"]) == (code, word), answer


async def test_only_so_many_are_inspected_at_once(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    go_on, begun = asyncio.Event(), []
    described = Intake.inspect

    async def waiting(self: Intake, module: bytes) -> Any:
        begun.append(module)
        await go_on.wait()
        return await described(self, module)

    monkeypatch.setattr(Intake, "inspect", waiting)
    four = [asyncio.create_task(inspect(gateway, modules["sum"])) for _ in range(4)]

    async def count() -> int:
        return len(begun)

    await until(count, lambda n: n == 4)
    code, said = await inspect(gateway, modules["sum"])
    assert (code, said["code"]) == (503, "busy")
    go_on.set()
    assert [code for code, _ in await asyncio.gather(*four)] == [200] * 4
    assert (await inspect(gateway, modules["sum"]))[0] == 200
