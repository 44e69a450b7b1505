"""The contracts of import-linter hold what is added later, too, without being told of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOUNDED = ("sqlalchemy", "alembic", "psycopg", "wasmtime", "trio", "libp2p", "aiohttp")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what import-linter says of a copy with files in it that nobody knows of."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "swarm_hub", tree / "swarm_hub", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    components = tree / "swarm_hub" / "components"
    (components / "newcomer").mkdir()
    (components / "newcomer" / "__init__.py").write_text(
        "".join(f"import {module}\n" for module in BOUNDED)
    )
    (components / "scheduler" / "strategies" / "lucky.py").write_text("import random\n")
    (tree / "swarm_hub" / "attic.py").touch()
    (tree / "swarm_hub" / "endpoints" / "impatient.py").write_text("import swarm_hub.components\n")
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [linter, "--no-logo", "--no-cache"], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", BOUNDED)
def test_a_new_component_may_not_import_a_bounded_library(said: str, library: str) -> None:
    assert f"swarm_hub.components.newcomer -> {library} (l." in said


def test_a_new_strategy_may_not_leave_anything_to_chance(said: str) -> None:
    assert "swarm_hub.components.scheduler.strategies.lucky -> random (l.1)" in said


def test_a_new_module_of_a_low_room_may_not_look_up(said: str) -> None:
    assert "swarm_hub.endpoints.impatient -> swarm_hub.components (l.1)" in said


def test_a_new_room_needs_a_place_among_the_others(said: str) -> None:
    assert "swarm_hub.attic" in said
