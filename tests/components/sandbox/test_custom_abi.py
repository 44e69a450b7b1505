"""An ABI that a custom component brings."""

import json
from pathlib import Path

import pytest

from swarm_hub.components.sandbox import SANDBOX
from tests.conftest import Swarm, until
from tests.helpers.modules import HALVES
from tests.helpers.rest import call, finished, submit
from tests.helpers.snippets import code_of

Modules = dict[str, bytes]

ABI_F64 = code_of("docs/components/sandbox.md", "python")
SETUP = code_of("docs/components/sandbox.md", "python", 1)


def component(hub: Path, abi: str, setup: str = SETUP) -> None:
    home = hub / "custom_components" / "floats"
    home.mkdir(parents=True)
    manifest = {
        "domain": "floats", "name": "Floats", "documentation": "none", "version": "1.0.0",
        "dependencies": ["sandbox"],
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(setup)
    (home / "abi_f64.py").write_text(abi)


async def test_a_job_is_called_by_the_abi_of_a_custom_component(
    swarm: Swarm, tmp_path: Path, modules: Modules
) -> None:
    for name in ("gateway", "worker"):
        component(tmp_path / name, ABI_F64)
    gateway = await swarm.gateway(extra="floats:\n")
    await swarm.worker("worker", extra="floats:\n")
    wasm = await gateway.hub.services[SANDBOX].sandbox.assemble(HALVES)
    spec = {"reduce": "sum", "shard_size": 1, "split": "lines"}
    _, body = await submit(gateway, wasm, b"1\n2\n5.5\n", spec)
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 4.25), status
    # Those that were there before still are.
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, body["job_id"]))["result"] == 25


async def test_a_worker_without_it_says_so(swarm: Swarm, tmp_path: Path) -> None:
    component(tmp_path / "gateway", ABI_F64)
    gateway = await swarm.gateway(extra="floats:\n")
    await swarm.worker("worker")
    wasm = await gateway.hub.services[SANDBOX].sandbox.assemble(HALVES)
    _, body = await submit(gateway, wasm, b"1\n")

    async def failures() -> list[str]:
        _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
        return [each["data"]["message"] for each in story["events"] if "message" in each["data"]]

    found = await until(failures, bool)
    assert "There is no abi 'f64'; known:" in found[0]


@pytest.mark.parametrize(
    ("abi", "problem"),
    [
        ("ABI = nothing", "NameError: name 'nothing' is not defined"),
        ("import os", "ABI has no name, rank"),
        (ABI_F64.replace('"f64"', '"bytes"'), "there is an abi 'bytes' already"),
        ("raise SystemExit(3)", "exit 3"),
    ],
)
async def test_a_broken_one_fails_its_component_and_nothing_else(
    swarm: Swarm, tmp_path: Path, modules: Modules, caplog: pytest.LogCaptureFixture,
    abi: str, problem: str,
) -> None:  # fmt: skip
    component(tmp_path / "gateway", abi)
    gateway = await swarm.gateway(extra="floats:\n")
    assert "can't be used as an abi" in caplog.text
    assert problem in caplog.text
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, body["job_id"]))["result"] == 25
