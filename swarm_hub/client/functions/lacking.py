"""What a function needs and the sandbox lacks, as far as its source shows it."""

import ast
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from swarm_hub.client.errors import ClientError

# Of the library of CPython 3.12 these can't be imported in its build for WASI.
_LACKING: Final = frozenset(
    (
        "antigravity", "asynchat", "asyncore", "ctypes", "curses", "distutils", "ensurepip",
        "fcntl", "grp", "idlelib", "imp", "lib2to3", "lzma", "mmap", "msilib", "msvcrt",
        "multiprocessing", "nis", "nt", "ossaudiodev", "pty", "pwd", "pydoc_data", "readline",
        "resource", "rlcompleter", "smtpd", "spwd", "ssl", "syslog", "termios", "test",
        "tkinter", "tty", "turtle", "turtledemo", "uu", "venv", "webbrowser", "winreg",
        "winsound", "xdrlib",
    )
)  # fmt: skip
# These can, and then do nothing there.
_USELESS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "asyncio.run": "event loops",
        "concurrent.futures.ProcessPoolExecutor": "processes",
        "concurrent.futures.ThreadPoolExecutor": "threads",
        "ctypes": "foreign functions",
        "http.client": "network",
        "multiprocessing": "processes",
        "open": "files",
        "os.execv": "processes",
        "os.fork": "processes",
        "os.popen": "processes",
        "os.system": "processes",
        "socket": "network",
        "subprocess": "processes",
        "threading.Thread": "threads",
        "threading.Timer": "threads",
        "urllib.request": "network",
    }
)
# What programs submit jobs with is stood in for.
_CLIENT: Final = "swarm_hub"
_WITHOUT_IT: Final = "a device's sandbox has the library of Python alone"


def has_module(name: str) -> bool:
    """Whether the interpreter in the sandbox has a module."""
    top = name.partition(".")[0]
    return top == _CLIENT or (
        top in sys.stdlib_module_names and top not in _LACKING and name not in _LACKING
    )


def check(source: str, file: str, name: str | None) -> None:
    """Raise ClientError for an import or a call that can't work there.

    `name` is the function in a file that is imported as a whole; without it the source is the
    function's own.
    """
    try:
        tree = ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ClientError(f"{file} can't be read as Python: {error}") from None
    wanted = _reachable(tree, name) if name is not None else [tree]
    origins = {local: origin for node in ast.walk(tree) for local, origin, _ in _imports(node)}
    top = [*_at_import(tree)] if name is not None else []
    for each in (*top, *(node for one in wanted for node in ast.walk(one))):
        for _, _, module in _imports(each):
            if not has_module(module):
                raise ClientError(
                    f"{file}, line {each.lineno}: imports {module}, which the devices lack: "  # type: ignore[attr-defined]
                    f"{_WITHOUT_IT}. What only this machine needs is imported within "
                    'if __name__ == "__main__":, or in another function'
                )
    for each in top:
        _check_submits(each, file, origins)
    for one in wanted:
        for node in ast.walk(one):
            if isinstance(node, ast.Call) and (dotted := _dotted(node.func, origins)) is not None:
                _check_call(dotted, file, node.lineno)


def _check_submits(top: ast.AST, file: str, origins: Mapping[str, str]) -> None:
    """Raise ClientError for a call of the client that importing the file makes."""
    left = [top]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        left += ast.iter_child_nodes(node)
        if not isinstance(node, ast.Call):
            continue
        dotted = _dotted(node.func, origins) or ""
        if dotted.partition(".")[0] == _CLIENT:
            raise ClientError(
                f"{file}, line {node.lineno}: calls {dotted}, which each device that imports the "
                'file would do too; put what submits jobs below if __name__ == "__main__":'
            )


def _check_call(dotted: str, file: str, line: int) -> None:
    parts = dotted.split(".")
    for length in range(1, len(parts) + 1):
        if (what := _USELESS.get(".".join(parts[:length]))) is not None:
            raise ClientError(
                f"{file}, line {line}: calls {dotted}, and there are no {what} in a device's "
                "sandbox; give the function what it needs as its argument"
            )


def _at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements that importing the file runs, but those that may fail there."""
    left: list[ast.stmt] = list(tree.body)
    while left:
        node = left.pop(0)
        if isinstance(node, ast.If):
            if not _is_guard(node.test):
                left[:0] = [*node.body, *node.orelse]
        elif isinstance(node, ast.With | ast.For | ast.While | ast.ClassDef):
            yield from (each.context_expr for each in getattr(node, "items", ()))
            left[:0] = node.body
        else:
            yield node


def _is_guard(test: ast.expr) -> bool:
    """Whether it is `__name__ == "__main__"` or TYPE_CHECKING, neither of which holds there."""
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(test) if isinstance(node, ast.Attribute)}
    return bool({"__name__", "TYPE_CHECKING"} & (names | attributes))


def _reachable(tree: ast.Module, name: str) -> list[ast.AST]:
    """Return the definitions of the file that calling one of them may run."""
    defined = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    found: dict[str, ast.AST] = {}
    left = [name.partition(".")[0]]
    while left:
        each = left.pop()
        if each in found or each not in defined:
            continue
        found[each] = defined[each]
        left += [node.id for node in ast.walk(defined[each]) if isinstance(node, ast.Name)]
    return list(found.values())


def _imports(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Yield (local name, where it is from, module) of an import."""
    if isinstance(node, ast.Import):
        for each in node.names:
            top = each.name.partition(".")[0]
            yield each.asname or top, each.name if each.asname else top, each.name
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for each in node.names:
            yield each.asname or each.name, f"{module}.{each.name}", module


def _dotted(node: ast.expr, origins: Mapping[str, str]) -> str | None:
    """Return what is called by its whole name, such as threading.Thread."""
    steps: list[str] = []
    while isinstance(node, ast.Attribute):
        steps.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    first = origins.get(node.id, node.id)
    if node.id not in origins and (steps or first != "open"):
        return None
    return ".".join([first, *reversed(steps)])
