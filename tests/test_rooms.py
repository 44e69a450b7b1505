"""The house: which room may use which, read from the code itself."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "swarm_hub"
COMPONENTS = PACKAGE / "components"
DOMAINS = sorted(path.parent.name for path in COMPONENTS.glob("*/manifest.json"))


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every absolute import, with the names taken from a package."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
            if node.module == "swarm_hub.components":
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}"


def called(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every name and attribute that is used."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def test_the_components_are_found() -> None:
    assert {"api", "gateway", "mesh", "sandbox", "worker"} <= set(DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_component_imports_only_package_roots_that_its_manifest_lists(domain: str) -> None:
    manifest = json.loads((COMPONENTS / domain / "manifest.json").read_bytes())
    allowed = {*manifest["dependencies"], *manifest.get("after_dependencies", ())}
    wrong = []
    for path in sources(COMPONENTS / domain):
        for line, module in imported(path):
            parts = module.split(".")
            if parts[:2] != ["swarm_hub", "components"] or len(parts) < 3 or parts[2] == domain:
                continue
            if len(parts) > 3 or parts[2] not in allowed:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_component_owns_no_task_prints_nothing_and_reads_no_environment(domain: str) -> None:
    forbidden = {
        "asyncio.create_task", "asyncio.ensure_future", "ensure_future", "create_task",
        "print", "os.environ", "os.getenv", "os.environb",
    }  # fmt: skip
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} uses {name}"
        for path in sources(COMPONENTS / domain)
        for line, name in called(path)
        if name in forbidden
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
        for room in ("storage", "models", "util", "helpers", "client")
        for path in sources(PACKAGE / room)
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
