"""What the pages and the client's docstrings say to type works, beside one real hub.

tests/helpers/snippets.py says how a page marks what is not run here.
"""

import ast
import asyncio
import contextlib
import dataclasses
import doctest
import inspect
import io
import json
import linecache
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from swarm_hub import bootstrap, client
from swarm_hub.cli.swarm import free_port
from tests.helpers.reader import Reader, RunningHub
from tests.helpers.snippets import ROOT, Snippet, pages, snippets

# On a busy machine each of many commands takes its time.
pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]

# What a page's yaml takes from there.
SECRETS = "store: postgresql://hub:password@db.lan/swarm\n"


FOLLOWED = [page for page in pages() if any(each.followed for each in snippets(page))]
EXAMPLES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("examples/*/README.md"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with Reader(tmp_path_factory.mktemp("reader")).at_work() as reading:
        yield reading


@pytest.fixture
def outliving(reader: Reader) -> Sequence[RunningHub]:
    return reader.hubs[:1]


@pytest.mark.parametrize("page", FOLLOWED)
def test_what_a_page_says_to_type_works(
    page: str, reader: Reader, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        for each in (each for each in snippets(page) if each.followed):
            with subtests.test(each.place):
                follow(each, reader, names, tmp_path)
    finally:
        reader.turn_page()


@pytest.mark.nightly
@pytest.mark.parametrize("page", EXAMPLES)
def test_what_the_page_of_an_example_says_to_type_works(
    page: str, reader: Reader, tmp_path: Path
) -> None:
    (reader.clone / "notes.txt").write_text("remember the milk\n")
    (reader.clone / "book.txt").write_text("a swarm of swarms\n" * 100)
    (reader.clone / "video.mp4").write_bytes(bytes(range(256)) * 64)
    for each in (each for each in snippets(page) if each.followed):
        # What it does but for setting itself up.
        code = each.code.replace("script/example", f"{sys.executable} -m script.example_tools")
        follow(dataclasses.replace(each, code=code), reader, {}, tmp_path)


def follow(snippet: Snippet, reader: Reader, names: dict[str, Any], tmp_path: Path) -> None:
    match snippet.language:
        case "sh":
            printed = reader.output(snippet.code)
        case "python":
            printed = run_python(reader.filled_in(snippet.code), names, reader)
        case "yaml":
            printed = checked(reader.filled_in(snippet.code), tmp_path)
        case _:
            printed = json.dumps(json.loads(snippet.code))
    if snippet.file:
        (reader.clone / snippet.file).write_text(snippet.code)
    assert snippet.prints in printed


def run_python(code: str, names: dict[str, Any], reader: Reader) -> str:
    printed = io.StringIO()
    with (
        contextlib.chdir(reader.clone),
        contextlib.redirect_stdout(printed),
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setitem(os.environ, "HOME", str(reader.home))
        # As a notebook does it with each of its cells.
        cell, lines = f"cell {len(linecache.cache)}", code.splitlines(keepends=True)
        linecache.cache[cell] = (len(code), None, lines, cell)
        exec(compile(code, cell, "exec"), names)
    return printed.getvalue()


def checked(yaml: str, folder: Path) -> str:
    # A page shows a section; a hub has a role too.
    role = "" if re.search(r"^(gateway|worker):", yaml, re.MULTILINE) else "gateway:\n"
    (folder / "configuration.yaml").write_text(yaml + role)
    (folder / "secrets.yaml").write_text(SECRETS)
    _, planned = bootstrap.check(folder)
    return " ".join(each.manifest.domain for each in planned.components)


def documented() -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of all that is public in the client."""
    yield "swarm_hub.client", client.__doc__ or ""
    for name in client.__all__:
        found = getattr(client, name)
        if found.__name__ != name:
            # An earlier name.
            continue
        yield name, found.__doc__ or ""
        for called, method in inspect.getmembers(found, is_ours):
            if not called.startswith("_"):
                yield f"{name}.{called}", method.__doc__ or ""


def is_ours(member: object) -> bool:
    """Whether it is a method or a property; what refuses has a name of its own."""
    own = member.fget if isinstance(member, property) else member
    return inspect.isfunction(own) and not own.__name__.startswith("_")


@pytest.fixture(scope="module")
def known(reader: Reader) -> dict[str, Any]:
    """Return what an example has: the names of the client, an address, a token and a job."""
    for name in ("primes", "wordcount"):
        reader.output(f"swarm-hub example {name} > {name}.wat")
    spec = "--range 0:100 --shard-size 50 --watch --json"
    return {
        **{name: getattr(client, name) for name in client.__all__},
        "math": math,
        "url": reader.filled_in("http://127.0.0.1:8470"),
        "token": (reader.folder / ".storage" / "admin.token").read_text().strip(),
        "job_id": json.loads(reader.output(f"swarm-hub submit primes.wat {spec}"))["job_id"],
        "node_id": json.loads(reader.output("swarm-hub node list --json"))[0]["node_id"],
    }


DOCUMENTED = dict(documented())


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_example_in_a_docstring_of_the_client_gives_what_it_says(
    name: str, reader: Reader, known: dict[str, Any]
) -> None:
    try_examples(name, reader, known, known["url"])


@pytest.mark.nightly
def test_every_call_goes_on_with_the_second_gateway_and_where_a_loop_runs(
    reader: Reader, known: dict[str, Any], subtests: pytest.Subtests
) -> None:
    urls = [f"127.0.0.1:{free_port()}", known["url"]]

    async def cell(name: str) -> None:
        try_examples(name, reader, known, urls)

    for name in DOCUMENTED:
        with subtests.test(name):
            if name.startswith("Async"):
                try_examples(name, reader, known, urls)
            else:
                asyncio.run(cell(name))


def try_examples(name: str, reader: Reader, known: dict[str, Any], url: str | list[str]) -> None:
    examples = doctest.DocTestParser().get_examples(DOCUMENTED[name])
    assert examples, "show how it is called"
    with contextlib.chdir(reader.clone):
        if name.startswith("Async"):
            asyncio.run(tried_async(examples, known, url))
        else:
            with client.Swarm(url, known["token"]) as swarm:
                names = {**known, "swarm": swarm}
                for example in examples:
                    with printing(example):
                        eval(compiled(example), names)


async def tried_async(
    examples: Sequence[doctest.Example], known: dict[str, Any], url: str | list[str]
) -> None:
    async with client.AsyncSwarm(url, known["token"]) as swarm:
        names = {**known, "swarm": swarm}
        for example in examples:
            with printing(example):
                if (work := eval(compiled(example), names)) is not None:
                    await work


def compiled(example: doctest.Example) -> CodeType:
    """Return an example as code that, like a notebook, may wait at its top."""
    return compile(example.source, "example", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@contextlib.contextmanager
def printing(example: doctest.Example) -> Iterator[None]:
    """Fail unless what runs in it prints, or raises, what the example says."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    except Exception as error:
        if example.exc_msg is None:
            raise
        found, wanted = "".join(traceback.format_exception_only(error)), example.exc_msg
    else:
        found, wanted = printed.getvalue(), example.want
    right = doctest.OutputChecker().check_output(wanted, found, doctest.ELLIPSIS)
    assert right, f"{example.source}gives {found}, not {wanted}"
