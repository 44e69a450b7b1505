"""The contracts of import-linter hold what is added later, too, without being told of it."""

import pytest

from tests.tree import Tree

BOUNDED = (
    "sqlalchemy", "alembic", "psycopg", "wasmtime", "trio", "libp2p", "aiohttp", "cbor2", "nacl",
    "psutil",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Return a copy of this repository with files in it that no contract names."""
    tree = Tree(tmp_path_factory.mktemp("contracts") / "tree")
    for path, imports in {
        "components/newcomer/__init__.py": BOUNDED,
        "components/scheduler/strategies/lucky.py": ["random"],
        "endpoints/impatient.py": ["swarm_hub.components"],
        "attic.py": [],
    }.items():
        file = tree.folder / "swarm_hub" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"import {module}\n" for module in imports))
    return tree


@pytest.fixture(scope="module")
def said(tree: Tree) -> str:
    """Return what import-linter says of it."""
    code, said = tree.tried("lint-imports", "--no-logo")
    assert code == 1, said
    return said


@pytest.mark.parametrize("library", BOUNDED)
def test_a_new_component_may_not_import_a_bounded_library(said: str, library: str) -> None:
    assert f"swarm_hub.components.newcomer -> {library} (l." in said


def test_a_new_strategy_may_not_leave_anything_to_chance(said: str) -> None:
    assert "swarm_hub.components.scheduler.strategies.lucky -> random (l.1)" in said


def test_a_new_module_of_a_low_room_may_not_look_up(said: str) -> None:
    assert "swarm_hub.endpoints.impatient -> swarm_hub.components (l.1)" in said


def test_a_new_room_needs_a_place_among_the_others(said: str) -> None:
    assert "swarm_hub.attic" in said
