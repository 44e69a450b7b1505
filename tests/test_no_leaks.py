"""The fixture that every test has: what a test leaves behind fails it, what it ends does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def outcome(folder: Path, test: str) -> "subprocess.CompletedProcess[str]":
    """Run a file of tests under the configuration of ours."""
    (folder / "test_it.py").write_text(HEAD + test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder,
         "-p", "no:cacheprovider", folder / "test_it.py"],
        capture_output=True, text=True, timeout=60, check=False,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_what_a_test_leaves_behind_fails_it(tmp_path: Path, leak: str) -> None:
    test, named = LEAKS[leak]
    done = outcome(tmp_path, AT_ONCE + test)
    assert done.returncode == 1, done.stdout
    assert named in done.stdout
    assert "1 passed, 1 error" in done.stdout or "1 failed" in done.stdout


def test_what_a_test_ends_is_no_leak(tmp_path: Path) -> None:
    done = outcome(tmp_path, CLEAN)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout
