"""What leaves this machine of a function: its file, or its own source with the values it names.

A function of a file is sent as that file, which is imported there under another name than
`__main__`, as multiprocessing does it. One of a notebook, a lambda or one within another function
is sent alone, and only where source and values leave no doubt.
"""

import ast
import base64
import builtins
import dis
import functools
import inspect
import json
import sys
import textwrap
import types
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarm_hub.client.errors import ClientError
from swarm_hub.client.functions import device, encoding
from swarm_hub.client.functions.encoding import EncodingError, encode
from swarm_hub.client.functions.lacking import check, has_module

SOURCE_MAX_BYTES: Final = 256 * 1024
PROGRAM_NAME: Final = "swarm-hub-map.py"
_MODULE: Final = "__swarm_main__"
_LAMBDA: Final = "__swarm_lambda__"
# What a device's half imports for its own sake alone: it is one module there, without annotations.
_NOT_SENT: Final = ("from swarm_hub.client.functions.encoding import ", "from typing import ")
# A device runs it for each shard, and imports what was sent once.
_PROGRAM: Final = """\
import sys
if "_swarm_functions" not in sys.modules:
    import __future__, base64, json, types, zlib
    _made = types.ModuleType("_swarm_functions")
    _source, _parts = (zlib.decompress(base64.b64decode(each)).decode() for each in (
        {source!r}, {parts!r},
    ))
    _flags = __future__.annotations.compiler_flag
    exec(compile(_source, "_swarm_functions", "exec", _flags), _made.__dict__)
    sys.modules["_swarm_functions"] = _made
    _made.answer = _made.prepare(json.loads(_parts))
_made = sys.modules["_swarm_functions"]
_made.answer_shard(_made.answer)
"""


@dataclass(frozen=True, slots=True)
class Packed:
    """A function as it is sent: the program that a device runs, and what is in it, for people."""

    name: str
    program: bytes
    # What it is, and what that is: ("file", "job.py, 812 bytes").
    leaves: tuple[tuple[str, str], ...]


def pack(function: Callable[..., Any], *, spread: bool = False) -> Packed:
    """Return what is sent of a function; raises ClientError that says what to do.

    With `spread` an item is a tuple of arguments and a dict of named ones.
    """
    before: list[Any] = []
    named: dict[str, Any] = {}
    inner: Any = function
    while isinstance(inner, functools.partial):
        before = [*inner.args, *before]
        named = {**inner.keywords, **named}
        inner = inner.func
    parts, name, leaves = _parts(inner)
    said = _plain(before, f"the arguments of {name}"), _plain(named, f"the arguments of {name}")
    if before or named:
        leaves.append(("arguments", f"{len(said[0]) + len(said[1]):,} bytes"))
    parts |= {
        "before": [encode(each) for each in before],
        "named": {key: encode(each) for key, each in named.items()},
        "spread": spread,
    }
    text = json.dumps(parts)
    if len(text) > SOURCE_MAX_BYTES:
        raise ClientError(
            f"{name}: its source and the values that it names have {len(text):,} bytes, the most "
            f"is {SOURCE_MAX_BYTES:,}; give large values as items"
        )
    program = _PROGRAM.format(source=_packed(_device_source()), parts=_packed(text))
    return Packed(name, program.encode(), tuple(leaves))


def pack_expression(expression: str) -> Packed:
    """Return what is sent of an expression of `x`; modules that it names are imported."""
    try:
        tree = ast.parse(expression.strip(), "<expression>", "eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ClientError(f"the expression {expression!r}: {error}") from None
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | {"x"}
    own.update(node.id for node in named if isinstance(node.ctx, ast.Store))
    foreign = sorted({node.id for node in named if not hasattr(builtins, node.id)} - own)
    for name in foreign:
        if not has_module(name):
            raise ClientError(
                f"the expression {expression!r} names {name}, which is neither x nor of Python's "
                "library; a function of a file is given as FILE.py:FUNCTION"
            )
    source = (
        "".join(f"import {name}\n" for name in foreign)
        + f"def expression(x):\n    return ({expression.strip()}\n    )\n"
    )
    check(source, "<expression>", None)
    return pack_source("<expression>", source, "expression")


def pack_source(file: str, source: str, name: str) -> Packed:
    """Return what is sent of a function of a file that was not imported here."""
    check(source, file, name)
    parts = {**_EMPTY, "module": _MODULE, "file": [file, source], "name": name}
    parts |= {"before": [], "named": {}, "spread": False}
    text = json.dumps(parts)
    if len(text) > SOURCE_MAX_BYTES:
        raise ClientError(f"{file} has {len(text):,} bytes, the most is {SOURCE_MAX_BYTES:,}")
    program = _PROGRAM.format(source=_packed(_device_source()), parts=_packed(text))
    return Packed(name, program.encode(), (("file", f"{file}, {len(source.encode()):,} bytes"),))


_EMPTY: Final[dict[str, Any]] = {"own": [], "imports": [], "values": {}, "file": None}


def _parts(function: Any) -> tuple[dict[str, Any], str, list[tuple[str, str]]]:
    if (library := _in_library(function)) is not None:
        module, name = library
        line = f"import {module}\nfrom {module} import {name.partition('.')[0]}\n"
        parts = {**_EMPTY, "module": _MODULE, "file": ["<library>", line], "name": name}
        return parts, name, [("name", f"{module}.{name}")]
    if not isinstance(function, types.FunctionType):
        raise ClientError(
            f"a {type(function).__name__} can't be sent; give a function that is defined with def "
            "(of a method: one that makes the object on the device)"
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ClientError(
            f"{function.__qualname__} gives a coroutine or a generator; devices call plain "
            "functions: return list(...)"
        )
    module_name, name = function.__module__, function.__qualname__
    found = sys.modules.get(module_name or "")
    path = getattr(found, "__file__", None)
    parts = {**_EMPTY, "module": _MODULE, "name": name}
    if path is not None and _reached(found, name) is function:
        file, source = Path(path).name, read_source(Path(path))
        check(source, file, name)
        parts["file"] = [file, source]
        return parts, name, [("file", f"{file}, {len(source.encode()):,} bytes")]
    own = _Own()
    own.add(function, function.__name__)
    parts |= {"own": own.functions, "imports": own.imports, "values": own.values}
    leaves = [
        *(("function", f"{each['as']}, {len(each['source']):,} bytes") for each in own.functions),
        *(("import", line.strip()) for line in own.imports),
        *(("value", f"{key}, {len(text):,} bytes") for key, text in own.values.items()),
    ]
    return parts, function.__name__, leaves


class _Own:
    """Collects functions by their own sources, with the values and functions that they name."""

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}
        self.functions: list[dict[str, Any]] = []
        self.imports: list[str] = []
        self.values: dict[str, str] = {}

    def add(self, function: types.FunctionType, key: str) -> None:
        """Take in a function, behind those that it calls."""
        if hasattr(function, "__wrapped__"):
            raise ClientError(
                f"{function.__qualname__} is decorated, so its source is not all of it; define it "
                "at the top level of a file"
            )
        source, first_line, name = _own_source(function)
        check(source, _shown_file(function), None)
        cells = function.__closure__ or ()
        for free, cell in zip(function.__code__.co_freevars, cells, strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                raise ClientError(
                    f"{function.__qualname__} names {free}, which has no value yet"
                ) from None
            self._take(free, value, function)
        for named in sorted(set(_globals_of(function.__code__))):
            if named in function.__globals__:
                self._take(named, function.__globals__[named], function)
        defaults, by_name = function.__defaults__, function.__kwdefaults__
        where = f"the defaults of {function.__qualname__}"
        self.functions.append(
            {
                "file": _shown_file(function),
                "source": source,
                "first_line": first_line,
                "name": name,
                "as": key,
                "defaults": None if defaults is None else _plain(defaults, where),
                "named_defaults": None if by_name is None else _plain(by_name, where),
            }
        )

    def _take(self, key: str, value: Any, by: types.FunctionType) -> None:
        if key in self._seen:
            if self._seen[key] is not value:
                raise ClientError(
                    f"{by.__qualname__}: {key} is one thing here and another elsewhere; give them "
                    "different names"
                )
            return
        self._seen[key] = value
        if value is by:
            return
        if isinstance(value, types.ModuleType):
            if not has_module(value.__name__):
                raise ClientError(
                    f"{by.__qualname__} names {key}, the module {value.__name__}, which the "
                    "devices lack: a device's sandbox has the library of Python alone"
                )
            self.imports.append(f"import {value.__name__} as {key}\n")
        elif (library := _in_library(value)) is not None and "." not in library[1]:
            self.imports.append(f"from {library[0]} import {library[1]} as {key}\n")
        elif isinstance(value, types.FunctionType):
            self.add(value, key)
        else:
            self.values[key] = _plain(value, f"{by.__qualname__} names {key}, which")


def _own_source(function: types.FunctionType) -> tuple[str, int, str]:
    """Return the source of a function alone, the lines before it, and the name that it gives."""
    try:
        lines, start = inspect.findsource(function.__code__)
    except (OSError, TypeError):
        raise ClientError(
            f"the source of {function.__qualname__} can't be found; write it into a file"
        ) from None
    kind = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        tree = None
    text = "".join(lines)
    if tree is None:
        # Only a part of it is Python, as in a page: the block that begins there.
        text = textwrap.dedent("".join(inspect.getblock(lines[start:])))
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise ClientError(
                f"the source of {function.__qualname__} can't be read alone ({error.msg}); define "
                "it with def at the top level of a file"
            ) from None
        offset = start
    else:
        offset = 0
    line = function.__code__.co_firstlineno - offset
    found = [
        node for node in ast.walk(tree)
        if isinstance(node, kind) and line in (node.lineno, *_decorator_lines(node))
        and _fits(node, function)
    ]  # fmt: skip
    # One that is within another has that one's place too.
    found = [
        node for node in found
        if not any(other is not node and other in ast.walk(node) for other in found)
    ]  # fmt: skip
    if len({ast.dump(node) for node in found}) != 1:
        raise ClientError(
            f"{len(found)} functions in line {function.__code__.co_firstlineno} could be "
            f"{function.__qualname__}; put it on a line of its own, or define it with def"
        )
    node: Any = found[0]
    first_line = node.lineno + offset - 1
    if isinstance(node, ast.Lambda) and not _evaluates(node.args):
        segment = ast.get_source_segment(text, node)
        return f"{_LAMBDA} = ({segment}\n)\n", first_line, _LAMBDA
    _without_evaluation(node)
    if isinstance(node, ast.Lambda):
        return f"{_LAMBDA} = {ast.unparse(node)}\n", first_line, _LAMBDA
    node.decorator_list = []
    return ast.unparse(node) + "\n", first_line, function.__name__


def _decorator_lines(node: Any) -> list[int]:
    return [each.lineno for each in getattr(node, "decorator_list", ())]


def _fits(node: Any, function: types.FunctionType) -> bool:
    """Whether a node can be the function: by its name, or its arguments and where its body is."""
    code = function.__code__
    if not isinstance(node, ast.Lambda):
        return bool(node.name == function.__name__)
    given = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    if list(code.co_varnames[:count]) != given:
        return False
    body = node.body
    for line, end_line, column, end_column in code.co_positions():
        if line is None or end_line is None or column is None or end_column is None:
            continue
        # What makes no value has no width.
        if end_column > column and not (
            (body.lineno, body.col_offset) <= (line, column)
            and (end_line, end_column) <= (body.end_lineno, body.end_col_offset)
        ):
            return False
    return True


def _evaluates(arguments: ast.arguments) -> bool:
    return bool(arguments.defaults or any(arguments.kw_defaults))


def _without_evaluation(node: Any) -> None:
    """Take out what would be evaluated when the function is made: its values are sent instead."""
    arguments: ast.arguments = node.args
    nothing = ast.Constant(None)
    arguments.defaults = [nothing for _ in arguments.defaults]
    arguments.kw_defaults = [each and nothing for each in arguments.kw_defaults]
    for each in ast.walk(arguments):
        if isinstance(each, ast.arg):
            each.annotation = None
    if not isinstance(node, ast.Lambda):
        node.returns = None


def _globals_of(code: types.CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield each.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _in_library(value: Any) -> tuple[str, str] | None:
    """Return (module, name) of what Python's own library has under a name."""
    owner = getattr(value, "__objclass__", None) or value
    module, name = getattr(owner, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if not has_module(module) or module.startswith("swarm_hub") or module == "__main__":
        return None
    return (module, name) if _reached(sys.modules.get(module), name) is value else None


def _reached(found: Any, name: str) -> Any:
    for step in name.split("."):
        found = getattr(found, step, None)
    return found


def _shown_file(function: types.FunctionType) -> str:
    return Path(function.__code__.co_filename).name or "<function>"


def read_source(path: Path) -> str:
    """Return the text of a Python file; raises ClientError for what can't be sent."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path}: can't be read: {error.strerror}") from error
    if len(body) > SOURCE_MAX_BYTES:
        raise ClientError(
            f"{path} has {len(body):,} bytes, the most is {SOURCE_MAX_BYTES:,}; put the function "
            "into a file of its own"
        )
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClientError(f"{path} is not UTF-8 text: {error}") from None


def _plain(value: Any, what: str) -> str:
    try:
        return encode(value)
    except EncodingError as error:
        raise ClientError(f"{what} can't be sent: {error}") from None


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


@functools.cache
def _device_source() -> str:
    """Return what runs in the sandbox as one module."""
    return "".join(
        line
        for module in (encoding, device)
        for line in read_source(Path(inspect.getfile(module))).splitlines(keepends=True)
        if not line.startswith(_NOT_SENT)
    )
