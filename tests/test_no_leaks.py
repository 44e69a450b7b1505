"""The fixture that every test has: what a test leaves behind fails it, what it ends does not."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
# The tests run in a process of their own: what they leak is not to be found in this one.
HEAD = """
import asyncio, socket, subprocess, threading
from tests.conftest import no_leaks, no_leaks_on_the_loop, outliving

kept = []

"""
AT_ONCE = "import tests.conftest\ntests.conftest._LEAKS_END_WITHIN_S = 0.1\n"
LEAKS = {
    "a task": (
        "async def test_it() -> None:\n"
        "    kept.append(asyncio.create_task(asyncio.Event().wait(), name='forgotten'))\n",
        "name='forgotten'",
    ),
    "a task of a loop of its own": (
        "async def forget() -> None:\n"
        "    kept.append(asyncio.create_task(asyncio.Event().wait(), name='forgotten'))\n"
        "def test_it() -> None:\n"
        "    asyncio.run(forget())\n",
        "name='forgotten'",
    ),
    "a socket": (
        "def test_it() -> None:\n    kept.append(socket.create_server(('127.0.0.1', 0)))\n",
        "('127.0.0.1', ",
    ),
    "a connection": (
        "async def test_it() -> None:\n"
        "    server = await asyncio.start_server(lambda *_: None, '127.0.0.1', 0)\n"
        "    where = server.sockets[0].getsockname()\n"
        "    kept.extend(await asyncio.open_connection(*where))\n"
        "    server.close()\n",
        "('127.0.0.1', ",
    ),
    "a client session": (
        "import aiohttp\n"
        "from aiohttp import web\n"
        "async def test_it() -> None:\n"
        "    runner = web.ServerRunner(web.Server(lambda _request: web.Response()))\n"
        "    await runner.setup()\n"
        "    site = web.TCPSite(runner, '127.0.0.1', 0)\n"
        "    await site.start()\n"
        "    kept.append(aiohttp.ClientSession())\n"
        "    port = runner.addresses[0][1]\n"
        "    async with kept[0].get(f'http://127.0.0.1:{port}/') as answer:\n"
        "        assert answer.status == 200\n"
        "    kept.append(site)\n",
        "('127.0.0.1', ",
    ),
    "a socket that nobody has": (
        "def test_it() -> None:\n    socket.create_server(('127.0.0.1', 0))\n",
        "unclosed <socket.socket",
    ),
    "a thread": (
        "def test_it() -> None:\n"
        "    waiting = threading.Event().wait\n"
        "    kept.append(threading.Thread(target=waiting, name='lost', daemon=True))\n"
        "    kept[0].start()\n",
        "<Thread(lost",
    ),
    "a process": (
        "def test_it() -> None:\n    kept.append(subprocess.Popen(['sleep', '30']))\n",
        "name='sleep'",
    ),
}
CLEAN = """
async def test_what_was_cancelled_or_closed_may_take_a_moment() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    waiting = asyncio.create_task(asyncio.Event().wait())
    await asyncio.to_thread(lambda: None)
    waiting.cancel()
    writer.close()
    server.close()

def test_sockets_and_loops_that_are_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        asyncio.run(asyncio.sleep(0))
"""


def outcome(folder: Path, tests: dict[str, str]) -> dict[str, str]:
    """Run files of tests under the configuration of ours; returns what was wrong with each."""
    for name, test in tests.items():
        (folder / f"test_{name}.py").write_text(HEAD + test)
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder,
         "-p", "no:cacheprovider", f"--junitxml={report}", folder],
        capture_output=True, text=True, timeout=100, check=False,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    found = dict.fromkeys(tests, "")
    cases = {each.attrib["classname"] + each.attrib["name"]: each for each in _cases(report)}
    assert len(cases) == sum(test.count("def test_") for test in tests.values()), done.stdout
    for case in _cases(report):
        name = case.attrib["classname"].removeprefix("test_")
        for wrong in case:
            found[name] += wrong.attrib["message"] + (wrong.text or "")
    return found


def _cases(report: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(report).iter("testcase"))


def test_what_a_test_leaves_behind_fails_it(tmp_path: Path) -> None:
    names = {leak: leak.replace(" ", "_") for leak in LEAKS}
    found = outcome(tmp_path, {names[leak]: AT_ONCE + test for leak, (test, _) in LEAKS.items()})
    for leak, (_, named) in LEAKS.items():
        assert named in found[names[leak]], f"{leak} was not noticed: {found[names[leak]]}"


def test_what_a_test_ends_is_no_leak(tmp_path: Path) -> None:
    assert outcome(tmp_path, {"clean": CLEAN}) == {"clean": ""}
