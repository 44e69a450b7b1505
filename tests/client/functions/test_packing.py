"""What leaves this machine of a function, and what is refused before anything does."""

import collections
import functools
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import AsyncSwarm, ClientError
from swarm_hub.client.functions import device
from swarm_hub.client.functions.answers import outcomes
from swarm_hub.client.functions.encoding import encode
from swarm_hub.client.functions.packing import pack, pack_expression, pack_source
from tests.client.functions import job

LIMIT = 5
THING = object()


@pytest.fixture(autouse=True)
def no_stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a program does on its device: there it stands in for modules that it lacks."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if type(getattr(sys.modules[name], "__loader__", None)).__name__ == "_Absent":
            del sys.modules[name]


def doubled(x: int) -> int:
    return x * 2


def answered(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a function that answers as the device does, from what is sent of it alone."""
    sent: dict[str, Any] = {}
    names: dict[str, Any] = {}
    made = types.ModuleType("_swarm_functions")
    program = pack(function).program.decode()
    # What the program runs once.
    exec(program.split("_made.answer =")[0].replace("if ", "if True or ", 1)
         .replace('sys.modules["_swarm_functions"] = _made', "pass"), names)  # fmt: skip
    made, sent = names["_made"], json.loads(names["_parts"])
    answer = made.prepare(sent)
    return lambda item: outcomes(answer(encode(item)).encode() + b"\n", 0, 1, "here")[0]


def test_a_function_without_a_file_brings_what_it_names() -> None:
    by = 3

    def outer(x: int, more: int = by) -> Any:
        return doubled(x) + by + more + LIMIT, collections.Counter("aa")["a"]

    assert answered(outer)(1) == outer(1) == (13, 2)
    kinds = [kind for kind, _ in pack(outer).leaves]
    assert sorted(kinds) == ["function", "function", "import", "value", "value"]


def test_lambdas_on_one_line_are_told_apart() -> None:
    both = (lambda x: x + 1), (lambda x: x * 10)
    assert [answered(each)(5) for each in both] == [6, 50]
    assert answered(lambda x: (lambda y: y + x)(x))(2) == 4
    # Which of several that are alike does not matter.
    assert answered([lambda x: x, lambda x: x][1])(2) == 2


def test_a_traceback_has_the_lines_of_the_source() -> None:
    def fails(x: int) -> float:
        return x / 0

    error = answered(fails)(1)
    assert type(error) is ZeroDivisionError
    assert "return x / 0" in str(error.__cause__)
    assert 'File "test_packing.py"' in str(error.__cause__)


def test_partial_arguments_are_sent() -> None:
    assert answered(functools.partial(pow, 2))(10) == 1024
    assert answered(functools.partial(int, base=2))("101") == 5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: lambda _: THING, "names THING, which can't be sent: a builtins.object is not"),
        (lambda: lambda _: pytest.fail("x"), "the module pytest, which the devices lack"),
        (lambda: Path("x").read_text, "a method can't be sent"),
        (lambda: job.BadRow, "a type can't be sent"),
        (lambda: job.numpy_at_once, r"job\.py, line \d+: imports numpy, which the devices lack"),
        (lambda: functools.wraps(doubled)(lambda x: x), "is decorated"),
        (lambda: eval("lambda x: x"), "source of .* can't be found"),
        (lambda: functools.partial(job.scaled, THING), "the arguments of scaled can't be sent"),
    ],
)
def test_what_can_not_be_meant_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        pack(make())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import numpy\ndef f(x): pass", "line 1: imports numpy"),
        ("from .near import y\ndef f(x): pass", "line 1: imports .near"),
        ("import threading\ndef f(x): threading.Thread(target=x)", "calls threading.Thread"),
        ("from os import fork as go\ndef g(): go()\ndef f(x): g()", "line 2: calls os.fork"),
        ("import subprocess\ndef f(x): subprocess.run(x)", "no processes"),
        ("import socket\nclass A:\n    def a(self): socket.socket()\ndef f(x): A()", "no network"),
        ("def f(x): return open(x)", "no files"),
        (
            "from swarm_hub.client import Swarm as S\ns = S()\ndef f(x): 0",
            "2: calls .*Swarm, .* below",
        ),
        ("import swarm_hub.client as c\ndef f(x): 0\nwith c.Swarm(): 0", "line 3: calls swarm_hub"),
        ("def f(x:", "can't be read as Python"),
        ("def f(x): pass\n" + "#" * 300_000, "the most is 262,144"),
    ],
)
def test_what_the_sandbox_lacks_is_said_before(source: str, said: str) -> None:
    with pytest.raises(ClientError, match=said):
        pack_source("job.py", source, "f")


@pytest.mark.parametrize(
    "source",
    [
        "import threading, subprocess\ndef f(x): threading.Lock()\ndef g(): subprocess.run('x')",
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\ndef f(x): pass",
        "def f(x): pass\nif __name__ == '__main__':\n    import numpy",
        "from swarm_hub.client import Swarm\ndef f(x): pass",
        "from swarm_hub.client import Swarm\ndef f(x): pass\ndef main():\n    with Swarm(): pass",
        "def g():\n    import numpy\ndef f(x): pass",
    ],
)
def test_what_a_function_does_not_reach_may_be_anything(source: str) -> None:
    assert pack_source("job.py", source, "f").leaves == (("file", f"job.py, {len(source)} bytes"),)


def test_an_expression_brings_the_modules_that_it_names() -> None:
    assert pack_expression("math.sqrt(len(x)) + 1  # so").program > b""
    with pytest.raises(ClientError, match=r"the expression 'x \+'"):
        pack_expression("x +")
    with pytest.raises(ClientError, match=r"calls os\.fork"):
        pack_expression("os.fork()")
    assert pack_expression("[y for y in x if (lambda z: z)(y) and (w := y)]").program > b""
    with pytest.raises(ClientError, match=r"names job, which is neither x .* as FILE\.py:FUNCTION"):
        pack_expression("job.py")


async def test_a_dry_run_lists_what_would_leave_and_asks_nobody() -> None:
    async with AsyncSwarm("127.0.0.1:1", "token") as swarm:
        listed = await swarm.map(job.scaled, range(3), dry_run=True, priority=3)
        assert [kind for kind, _ in listed] == ["file", "items", "priority"]
        assert listed[0][1].startswith("job.py, ")
        with pytest.raises(ClientError, match="one value; give a list"):
            await swarm.map(job.scaled, "abc")
        with pytest.raises(ClientError, match=r"items\[1\] can't be sent"):
            await swarm.map(job.scaled, [1, THING])
        with pytest.raises(ClientError, match="says that itself"):
            await swarm.map(job.scaled, [1], split="json")
        with pytest.raises(ClientError, match="comes as a list"):
            await swarm.map(job.scaled, [1], reduce="sum")


@pytest.mark.parametrize(
    "body",
    [b"", b"+1", b"1\n", b"+1\n+2\n", b"+[\n", b"-{}\n", b"-1\n", b"\xff\n",
     b'-{"type":1,"text":"","trace":"","arguments":null}\n',
     b'-{"type":"ValueError","text":"","trace":"","arguments":"1"}\n'],
)  # fmt: skip
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(ClientError, match=r"kitchen"):
        outcomes(body, 0, 1, "kitchen")


def test_what_a_device_says_acts_on_no_terminal_and_raises_nothing_of_its_choice() -> None:
    told = {"type": "SystemExit", "text": "\x1b[2J", "trace": "\x1b]0;x", "arguments": encode((1,))}
    (error,) = outcomes(f"-{json.dumps(told)}\n".encode(), 4, 1, "\x1b[1m")
    assert (type(error).__name__, str(error)) == ("RemoteError", "SystemExit: \\x1b[2J")
    assert error.__notes__ == ["item 4, on \\x1b[1m"]
    assert "\x1b" not in str(error.__cause__)
    told |= {"type": "swarm_hub.client.errors.ApiError"}
    (error,) = outcomes(f"-{json.dumps(told)}\n".encode(), 4, 1, None)
    assert type(error).__name__ == "RemoteError"
    told |= {"type": "FileNotFoundError", "arguments": encode((44, "none")), "text": "none: 'a'"}
    (error,) = outcomes(f"-{json.dumps(told)}\n".encode(), 4, 1, None)
    assert (type(error), str(error)) == (FileNotFoundError, "none: 'a'")
    told |= {"type": "KeyError", "arguments": encode(("a", 1))}
    (error,) = outcomes(f"-{json.dumps(told)}\n".encode(), 4, 1, None)
    assert (type(error), error.args) == (KeyError, ("a", 1))


def test_an_exception_that_can_not_be_shown_is_told() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    told = json.loads(device.failure(Odd(THING)))
    assert told["arguments"] is None
    assert told["text"].startswith("an exception that can't be shown")
