"""A worker without what only gateways need: nothing of it is imported, and none of it is missed.

The worker is a process of its own over libp2p, and works on a job.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from tests.helpers.lacking import OF_GATEWAYS, OPTIONAL
from tests.helpers.swarms import local_swarm
from tests.helpers.without import python_without

ROOT = Path(__file__).parents[3]
# Modules that a worker imports, 1,042 on Python 3.11 and two percent; the aim is 750 (ADR 076).
MODULES_MAX = 1062
AT_START = """
import atexit, json, os, sys
# A child of the worker starts without this.
del os.environ["PYTHONPATH"]
sys.modules.update(dict.fromkeys({blocked!r}))
sys.path.remove({folder!r})

def tell():
    modules = [name for name, module in sys.modules.items() if module is not None]
    with open({told!r}, "w") as file:
        json.dump(modules, file)

atexit.register(tell)
"""


# What cryptography brings, and what the start of an environment imports.
OF_THE_ENVIRONMENT = {"cffi", "coverage", "setuptools", "swarm-hub"}


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def installed_on_a_phone() -> set[str]:
    """Return the libraries that install.sh gives a worker on Android."""
    lines = (ROOT / "swarm_hub" / "requirements" / "worker.txt").read_text(encoding="utf-8")
    return {
        canonical(line.partition("==")[0])
        for line in lines.splitlines()
        if "==" in line and "sys_platform != 'android'" not in line
    }


# Termux has it built, or there is a wheel that pip has to be shown.
BUILT_FOR_TERMUX = {"cryptography", "wasmtime"}


@dataclass
class Slim:
    """A gateway, and workers that tell what they have imported."""

    folder: Path
    swarm: LocalSwarm
    gateway: LocalHub

    async def imports(
        self, monkeypatch: pytest.MonkeyPatch, module: bytes, blocked: Sequence[str] = ()
    ) -> list[str]:
        """Have a worker work from which some libraries are kept; returns what it imported."""
        told = self.folder / "modules.json"
        (self.folder / "sitecustomize.py").write_text(
            AT_START.format(blocked=tuple(blocked), folder=str(self.folder), told=str(told))
        )
        with monkeypatch.context() as patched:
            patched.setenv("PYTHONPATH", os.pathsep.join((str(self.folder), str(ROOT))))
            worker = self.swarm.start_worker("worker", self.gateway)
        async with SwarmClient(self.gateway.url, self.gateway.token) as client:
            await self.swarm.wait_for_workers(client, 1)
            assert await client.map(module, range(1000), reduce="sum") == 168
        assert worker.process is not None
        worker.process.terminate()
        await asyncio.to_thread(worker.process.wait, 30)
        loaded: list[str] = json.loads(told.read_text())
        return loaded


@pytest.fixture
def slim(tmp_path: Path) -> Iterator[Slim]:
    swarm = local_swarm(tmp_path / "swarm")
    try:
        yield Slim(tmp_path, swarm, swarm.start_gateway())
    finally:
        swarm.stop()


async def test_a_worker_imports_nothing_that_only_gateways_need(
    slim: Slim, monkeypatch: pytest.MonkeyPatch, modules: dict[str, bytes]
) -> None:
    loaded = await slim.imports(monkeypatch, modules["primes"])
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(OF_GATEWAYS)
    assert len(loaded) <= MODULES_MAX


async def test_a_worker_works_where_nothing_is_installed_that_it_can_do_without(
    slim: Slim, monkeypatch: pytest.MonkeyPatch, modules: dict[str, bytes]
) -> None:
    blocked = (*OF_GATEWAYS, *OPTIONAL)
    loaded = await slim.imports(monkeypatch, modules["primes"], blocked)
    tops = {name.partition(".")[0] for name in loaded}
    assert tops.isdisjoint(blocked)
    # What is left is what is installed there.
    owners = packages_distributions()
    found = {canonical(owner) for top in tops for owner in owners.get(top, ())}
    assert found <= installed_on_a_phone() | BUILT_FOR_TERMUX | OF_THE_ENVIRONMENT


def test_the_commands_of_a_worker_do_without_the_libraries_of_a_gateway() -> None:
    names = ("check", "doctor", "init", "join", "key", "pause", "resume", "run", "status")
    code = (
        "from swarm_hub.cli import main\n"
        f"for name in {names}: main.get_command(None, name)\n"
        "print('ok')\n"
    )
    assert python_without(OF_GATEWAYS, code) == "ok"


@pytest.mark.parametrize(
    ("command", "library"), [("['job', 'list']", "aiohttp"), ("['demo']", "rich")]
)
def test_a_command_of_a_gateway_says_what_to_install(command: str, library: str) -> None:
    code = (
        "import contextlib, io\n"
        "from swarm_hub.cli import run\n"
        "said = io.StringIO()\n"
        f"sys.argv[1:] = {command}\n"
        "with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):\n"
        "    run(0.0)\n"
        "print(said.getvalue())\n"
    )
    assert python_without((library,), code) == (
        f"swarm-hub: {library} is not installed here: pip install 'swarm-hub[gateway]'"
    )


def test_a_component_of_a_gateway_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from swarm_hub.exceptions import SetupError\n"
        "from swarm_hub.loader import ComponentIndex\n"
        "try:\n"
        f"    ComponentIndex(Path({str(tmp_path)!r})).manifest('api').import_component()\n"
        "except SetupError as error:\n"
        "    print(error)\n"
    )
    assert python_without(("aiohttp",), code) == (
        "aiohttp is not installed here: pip install 'swarm-hub[gateway]'"
    )


def test_discovery_by_mdns_says_what_to_install() -> None:
    code = (
        "from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p\n"
        "import_libp2p()\n"
        "from swarm_hub.components.mesh.transports.libp2p.mdns import LocalDiscovery\n"
        "from swarm_hub.exceptions import MeshError\n"
        "class Swarm:\n"
        "    get_peer_id = str\n"
        "try:\n"
        "    LocalDiscovery(Swarm(), print).start([])\n"
        "except MeshError as error:\n"
        "    print(error)\n"
    )
    assert python_without(("zeroconf",), code) == (
        "zeroconf is not installed here: pip install 'swarm-hub[gateway]'"
    )
