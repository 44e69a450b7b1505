"""The half of a job of functions that runs in the sandbox, behind `encoding` in one module.

It is read by CPython 3.12 for WASI. Each line of a shard is an item, each line of its answer what
became of that item: `+` and its value, or `-` and the exception. What a function prints is the
shard's log. Each import costs each interpreter that is started: importlib.abc took as long as
starting it.
"""

import importlib.machinery
import io
import json
import linecache
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from swarm_hub.client.functions.encoding import EncodingError, decode, encode

# The result of one item, as it is sent.
RESULT_MAX_CHARS = 12 * 1024 * 1024
TRACE_MAX_CHARS = 16_000
_TEXT_MAX_CHARS = 4000


class _Absent:
    """Stands in for the client, which programs import beside the functions that they send."""

    def find_spec(
        self, name: str, _path: Any = None, _target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the client alone."""
        if name.partition(".")[0] != "swarm_hub":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, _spec: importlib.machinery.ModuleSpec) -> None:
        """Leave that to the import."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Give any name that is asked for, to be called by nobody."""

        def absent(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)

            def call(*_arguments: Any, **_named: Any) -> Any:
                raise RuntimeError(
                    f"a device can't call {module.__name__}.{name}; what submits jobs stands below "
                    'if __name__ == "__main__":'
                )

            return call

        module.__dict__["__getattr__"] = absent


def prepare(parts: dict[str, Any]) -> Callable[[str], str]:
    """Import what was sent of a function; returns what answers an item with a line."""
    try:
        function = _imported(parts)
    except BaseException as error:
        # As each item would be, if it could be called.
        said = "-" + failure(error)
        return lambda _line: said
    before = tuple(decode(text) for text in parts["before"])
    named = {key: decode(text) for key, text in parts["named"].items()}
    if parts["spread"]:
        return lambda line: _answer(
            lambda item: function(*before, *item[0], **{**named, **item[1]}), line
        )
    return lambda line: _answer(lambda item: function(*before, item, **named), line)


def answer_shard(answer: Callable[[str], str]) -> None:
    """Answer each line of a shard on stdout; what the function prints goes to stderr."""
    lines, out = sys.stdin.read().split("\n"), sys.stdout
    sys.stdin, sys.stdout = io.StringIO(), sys.stderr
    try:
        said = [answer(line) for line in lines if line]
    finally:
        sys.stdout = out
    out.write("".join(f"{each}\n" for each in said))


def failure(error: BaseException) -> str:
    """Return an exception as JSON: its class by name, its arguments if they are plain, as text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        # The lines of this file tell nobody anything.
        trace = trace.tb_next
    error.__traceback__ = trace
    try:
        arguments: str | None = encode(error.args)
        if arguments is not None and len(arguments) > _TEXT_MAX_CHARS:
            arguments = None
    except Exception:
        arguments = None
    try:
        text = str(error)[:_TEXT_MAX_CHARS]
        shown = "".join(traceback.format_exception(error))[-TRACE_MAX_CHARS:]
    except BaseException as other:
        text = shown = f"an exception that can't be shown: {type(other).__name__}"
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", None):
        name = f"{kind.__module__}.{name}"
    return json.dumps({"type": name[:200], "arguments": arguments, "text": text, "trace": shown})


def _answer(call: Callable[[Any], Any], line: str) -> str:
    try:
        value = call(decode(line))
    except BaseException as error:
        return "-" + failure(error)
    try:
        text = encode(value)
        if len(text) > RESULT_MAX_CHARS:
            raise EncodingError(
                f"it has {len(text):,} bytes as it is sent, the most is {RESULT_MAX_CHARS:,}; "
                "return less for an item"
            )
    except Exception as error:
        return "-" + failure(ValueError(f"the result of the function can't be sent: {error}"))
    return "+" + text


def _imported(parts: dict[str, Any]) -> Any:
    """Return the function: of its file as a module, or made from its own source."""
    sys.meta_path.append(_Absent())
    module = types.ModuleType(parts["module"])
    sys.modules[module.__name__] = module
    names = module.__dict__
    if parts["file"] is not None:
        name, source = parts["file"]
        module.__file__ = name
        _remember(name, source, 0)
        exec(compile(source, name, "exec"), names)  # noqa: S102
    function: Any = module
    if not parts["own"]:
        for step in parts["name"].split("."):
            function = getattr(function, step)
        return function
    for line in parts["imports"]:
        exec(line, names)  # noqa: S102
    for key, text in parts["values"].items():
        names[key] = decode(text)
    for own in parts["own"]:
        name, source, first_line = own["file"], own["source"], own["first_line"]
        _remember(name, source, first_line)
        exec(compile("\n" * first_line + source, name, "exec"), names)  # noqa: S102
        function = names[own["as"]] = names[own["name"]]
        if own["defaults"] is not None:
            function.__defaults__ = decode(own["defaults"])
        if own["named_defaults"] is not None:
            function.__kwdefaults__ = decode(own["named_defaults"])
    return function


def _remember(name: str, source: str, first_line: int) -> None:
    """Have tracebacks show the lines of a source that is no file here."""
    known = linecache.cache.get(name)
    lines = list(known[2]) if known is not None and len(known) == 4 else []
    given = source.splitlines(True)
    lines += ["\n"] * (first_line + len(given) - len(lines))
    lines[first_line : first_line + len(given)] = given
    linecache.cache[name] = (len(source), None, lines, name)
