"""What the pages say to type works: each page is followed by a reader with a hub of their own.

tests/helpers/snippets.py says how a page marks what is not run here.
"""

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from swarm_hub import bootstrap
from tests.helpers.reader import Reader, RunningHub
from tests.helpers.snippets import Snippet, pages, snippets

pytestmark = [pytest.mark.process, pytest.mark.slow]

# What a page's yaml takes from there.
SECRETS = "store: postgresql://hub:password@db.lan/swarm\n"


FOLLOWED = [page for page in pages() if any(each.followed for each in snippets(page))]


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
    try:
        for each in (each for each in snippets(page) if each.followed):
            with subtests.test(each.place):
                follow(each, reader, tmp_path)
    finally:
        reader.stop_but(1)


def follow(snippet: Snippet, reader: Reader, tmp_path: Path) -> None:
    match snippet.language:
        case "sh":
            printed = reader.output(snippet.code)
        case "python":
            printed = run_python(reader.filled_in(snippet.code), reader)
        case "yaml":
            printed = checked(reader.filled_in(snippet.code), tmp_path)
        case _:
            printed = json.dumps(json.loads(snippet.code))
    if snippet.file:
        (reader.clone / snippet.file).write_text(snippet.code)
    assert snippet.prints in printed


def run_python(code: str, reader: Reader) -> str:
    printed = io.StringIO()
    with (
        contextlib.chdir(reader.clone),
        contextlib.redirect_stdout(printed),
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setitem(os.environ, "HOME", str(reader.home))
        exec(compile(code, "a page", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def checked(yaml: str, folder: Path) -> str:
    # A page shows a section; a hub has a role too.
    role = "" if re.search(r"^(gateway|worker):", yaml, re.MULTILINE) else "gateway:\n"
    (folder / "configuration.yaml").write_text(yaml + role)
    (folder / "secrets.yaml").write_text(SECRETS)
    _, planned = bootstrap.check(folder)
    return " ".join(each.manifest.domain for each in planned.components)
