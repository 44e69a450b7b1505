"""Python files, read without running them: what they import and what they use."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_PACKAGE: Final = ["swarm_hub", "components"]
# A task without an owner is lost, and what is printed or read from the environment nobody
# configured.
_FORBIDDEN: Final = frozenset(
    {
        "asyncio.create_task", "asyncio.ensure_future", "ensure_future", "create_task",
        "print", "os.environ", "os.getenv", "os.environb",
    }
)  # fmt: skip


def sources(folder: Path) -> list[Path]:
    """Return the Python files of a folder."""
    return sorted(folder.rglob("*.py"))


def nodes(path: Path) -> Iterator[ast.AST]:
    """Yield every node of a file's syntax."""
    yield from ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def imported(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute name) of every module that a file imports, as a whole or names of it.

    A name is a module where there is a file or a folder of that name.
    """
    package = path.relative_to(root).parent.parts
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            # A component of the owner's imports modules of the repository, too.
            folders = [each.joinpath(*module.split(".")) for each in {root, ROOT}]
            for alias in node.names:
                is_module = any(
                    (folder / f"{alias.name}.py").is_file() or (folder / alias.name).is_dir()
                    for folder in folders
                )
                yield node.lineno, f"{module}.{alias.name}" if is_module else module


def called(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every name and attribute that is used."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def foreign_imports(
    folder: Path, domain: str, allowed: set[str], root: Path = ROOT
) -> Iterator[tuple[Path, int, str]]:
    """Yield (file, line, module) of what a component imports of others but may not.

    It may import the package root of those that its manifest lists.
    """
    for path in sources(folder):
        for line, module in imported(path, root):
            parts = module.split(".")
            if parts[0] == "custom_components":
                parts = [*_PACKAGE, *parts[1:]]
            if parts[:2] != _PACKAGE or len(parts) < 3 or parts[2] == domain:
                continue
            if len(parts) > 3 or parts[2] not in allowed:
                yield path, line, module


def forbidden_uses(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Yield (file, line, name) of what no component may use."""
    for path in sources(folder):
        for line, name in called(path):
            if name in _FORBIDDEN:
                yield path, line, name


def mentions(folder: Path, attribute: str) -> bool:
    """Whether any file uses an attribute of that name, of whatever."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == attribute
        for path in sources(folder)
        for node in nodes(path)
    )
