"""Which package may use which, read from the code itself; and so for its tests."""

import ast
import json
import sys
from pathlib import Path

import pytest

from script.hubfest_tools.sources import (
    called,
    forbidden_uses,
    foreign_imports,
    imported,
    nodes,
    sources,
)
from tests import conftest

PACKAGE = Path(__file__).parents[1] / "swarm_hub"
COMPONENTS = PACKAGE / "components"
TESTS = PACKAGE.parent / "tests"
DOMAINS = sorted(path.parent.name for path in COMPONENTS.glob("*/manifest.json"))


def test_the_components_are_found() -> None:
    assert {"api", "gateway", "mesh", "sandbox", "worker"} <= set(DOMAINS)


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("import shop.till", "shop.till"),
        ("from shop import opens", "shop"),
        ("from shop import till", "shop.till"),
        ("from .counter import ask", "shop.till.counter"),
        ("from . import counter", "shop.till.counter"),
        ("from . import closes", "shop.till"),
        ("from .. import cellar", "shop.cellar"),
        ("from ..cellar.wine import drink", "shop.cellar.wine"),
        ("def late():\n    from ..cellar import wine", "shop.cellar.wine"),
    ],
)
def test_an_import_is_seen_however_it_is_written(tmp_path: Path, line: str, module: str) -> None:
    for name in ("shop", "shop/till", "shop/till/counter", "shop/cellar"):
        (tmp_path / name).mkdir()
    (tmp_path / "shop" / "cellar" / "wine.py").touch()
    path = tmp_path / "shop" / "till" / "drawer.py"
    path.write_text(line)
    assert [found for _, found in imported(path, tmp_path)] == [module]


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_component_imports_only_package_roots_that_its_manifest_lists(domain: str) -> None:
    manifest = json.loads((COMPONENTS / domain / "manifest.json").read_bytes())
    allowed = {*manifest["dependencies"], *manifest.get("after_dependencies", ())}
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for path, line, module in foreign_imports(COMPONENTS / domain, domain, allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_layers_above_import_only_package_roots_of_components() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for path in sources(PACKAGE)
        if COMPONENTS not in path.parents
        for line, module in imported(path)
        if module.startswith("swarm_hub.components.") and module.count(".") > 2
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_component_owns_no_task_prints_nothing_and_reads_no_environment(domain: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} uses {name}"
        for path, line, name in forbidden_uses(COMPONENTS / domain)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_file_says_in_its_first_line_what_it_is() -> None:
    silent = [
        str(path.relative_to(PACKAGE))
        for path in sources(PACKAGE)
        if not (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()
    ]
    assert silent == []


def test_the_core_knows_no_component() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for package in ("storage", "models", "util", "helpers", "client")
        for path in sources(PACKAGE / package)
        for line, module in imported(path)
        if module.startswith("swarm_hub.components")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_mesh_knows_no_role() -> None:
    """What a hub is to others its components register; see `Capability`."""
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} names {node.value!r}"
        for path in sources(COMPONENTS / "mesh")
        for node in nodes(path)
        if isinstance(node, ast.Constant) and node.value in ("gateway", "worker")
    ]
    assert not wrong, "\n".join(wrong)


def test_tests_of_components_and_storage_are_in_the_folder_of_what_they_test() -> None:
    folders = {
        path.parent.relative_to(TESTS)
        for package in ("components", "storage")
        for path in sources(TESTS / package)
    }
    assert sorted(str(folder) for folder in folders if not (PACKAGE / folder).is_dir()) == []


def test_no_test_module_is_imported_and_no_conftest_but_the_one_at_the_top() -> None:
    """What tests share is in `tests/helpers/` or in a module beside them, fixtures in conftests."""
    wrong = [
        f"{path.relative_to(TESTS)}:{line} imports {module}"
        for path in sources(TESTS)
        for line, module in imported(path)
        if module.startswith("tests.") and module != "tests.conftest"
        if any(part == "conftest" or part.startswith("test_") for part in module.split("."))
    ]
    assert not wrong, "\n".join(wrong)


def test_fixtures_are_where_pytest_finds_them() -> None:
    wrong = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sources(TESTS)
        if path.name != "conftest.py" and not path.name.startswith("test_")
        for line, name in called(path)
        if name == "pytest.fixture"
    ]
    assert not wrong, "\n".join(wrong)


def test_what_gives_a_mark_is_there_under_that_name() -> None:
    """A folder, an import or a fixture that was renamed would take the mark away unnoticed."""
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()}
    assert conftest._MARKS_BY_FOLDER.keys() <= folders
    modules = [path for path in sources(TESTS) if path.name.startswith("test_")]
    names = {
        alias.name
        for path in modules
        for node in nodes(path)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    giving = conftest._IMPORTS_THAT_START_PROCESSES | conftest._IMPORTS_THAT_SPEAK_LIBP2P
    assert giving - sys.stdlib_module_names <= names
    functions = {
        node.name
        for path in sources(TESTS)
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert functions >= conftest._FIXTURES_THAT_START_PROCESSES
