"""`script/scaffold`: what it writes works and is clean as it is, and what it can't do it says."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from script.scaffold_tools.__main__ import scaffold
from swarm_hub.components.scheduler import STRATEGY
from tests.conftest import Swarm
from tests.helpers.rest import call
from tests.tree import Tree

WRITTEN = [
    "component room_heater",
    "platform careful --domain scheduler",
    "platform careful --domain sla",
    "platform careful --domain gc",
    "view room_temperatures --domain room_heater",
    "view hub_names --domain gateway",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Return a copy of this repository with one of each kind written."""
    tree = Tree(tmp_path_factory.mktemp("scaffold") / "tree")
    for line in WRITTEN:
        tree.run("python", "-m", "script.scaffold_tools", *line.split())
    return tree


@pytest.mark.slow
def test_what_it_writes_is_clean(tree: Tree) -> None:
    tree.run("ruff", "check", ".")
    tree.run("ruff", "format", "--check", ".")
    tree.run("mypy")
    tree.run("lint-imports")


@pytest.mark.slow
@pytest.mark.nightly
def test_what_it_writes_passes_its_own_tests_and_those_of_the_whole(tree: Tree) -> None:
    components = tree.folder / "tests" / "components"
    names = "careful", "hub_names", "room_heater", "room_temperatures"
    written = [str(path) for name in names for path in components.rglob(f"test_{name}.py")]
    assert len(written) == len(WRITTEN)
    whole = "layers", "docs", "example"
    tree.test(*written, *(f"tests/test_{name}.py" for name in whole))


async def test_it_writes_for_a_hub_of_ones_own(swarm: Swarm, tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    for line in (
        "component room_heater",
        "view room_temperatures --domain room_heater",
        "platform careful --domain scheduler",
    ):
        done = CliRunner().invoke(scaffold, [*line.split(), "--custom", str(folder)])
        assert done.exit_code == 0, done.output
    gateway = await swarm.gateway(
        extra="room_heater: {every: 5s}\nscheduler: {platform: careful, pieces: 2}\n"
    )
    assert await call(gateway, "GET", "/room_temperatures") == (200, {"hub": "gateway"})
    assert gateway.hub.services[STRATEGY].pieces == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("component Heater", "'Heater' is no name for it: small letters, digits"),
        ("component room-heater", "'room-heater' is no name for it"),
        ("component room__heater", "'room__heater' is no name for it"),
        ("component ../heater", "'../heater' is no name for it"),
        ("component class", "'class' is no name for it"),
        ("component storage", "storage is a section of the core"),
        ("component mesh", "swarm_hub/components/mesh/manifest.json exists already; choose"),
        ("platform fixed --domain sla", "swarm_hub/components/sla/fixed.py exists already"),
        ("platform mine --domain sl", "no component 'sl' has platforms; did you mean sla?"),
        ("platform mine --domain mesh", "has platforms; there are gc, scheduler, sla"),
        ("platform mine", "Missing option '--domain'"),
        ("view mine --domain meshes", "no component 'meshes' is in swarm_hub/components; did you"),
        ("view jobs --domain gateway", "swarm_hub/components/gateway/views/jobs.py exists already"),
        ("platform fixed --domain sla --custom .", "fixed is built in and would win"),
        ("component mine --custom nowhere", "Directory 'nowhere' does not exist"),
    ],
)
def test_what_it_can_not_write_it_says(line: str, said: str) -> None:
    done = CliRunner().invoke(scaffold, line.split())
    assert (done.exit_code, said in done.output) == (2, True), done.output


def test_a_view_needs_a_component_that_has_a_set_up(tmp_path: Path) -> None:
    home = tmp_path / "custom_components" / "heater"
    home.mkdir(parents=True)
    (home / "manifest.json").touch()
    (home / "__init__.py").write_text('"""Heats."""\n')
    line = ["view", "warmth", "--domain", "heater", "--custom", str(tmp_path)]
    done = CliRunner().invoke(scaffold, line)
    assert "__init__.py can't be changed: it has no `async def async_setup(hub" in done.output
    assert sorted(path.name for path in home.iterdir()) == ["__init__.py", "manifest.json"]
