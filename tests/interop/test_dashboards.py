"""The dashboards of docs/user-guide.md, one by Home Assistant's own library, over a restart."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.models.event import EventType, NewEvent
from tests.conftest import RunningHub, Swarm
from tests.interop.javascript import FOLDER

PAGE = (Path(__file__).parents[2] / "docs" / "user-guide.md").read_text()
# Longer than any of its pauses between two tries to reconnect.
_LINE_WITHIN_S = 40.0


def block(language: str) -> str:
    """Return the block in that language of the section on events."""
    section = PAGE.partition("## Events by websocket\n")[2].partition("\n## ")[0]
    return section.partition(f"```{language}\n")[2].partition("```")[0]


def command(language: str) -> list[str]:
    """Return the program that runs such a block from its standard input."""
    if language == "python":
        return [sys.executable, "-"]
    node = shutil.which("node")
    assert node is not None, "node is missing: run script/setup --test"
    assert (FOLDER / "node_modules" / "home-assistant-js-websocket").is_dir(), (
        "run script/setup --test"
    )
    return [node, "--experimental-websocket", "--input-type=module", "-"]


class Dashboard:
    """One that runs; what it prints comes line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def lines(self, count: int) -> list[str]:
        """Return the next lines."""
        assert self.process.stdout is not None
        async with asyncio.timeout(_LINE_WITHIN_S):
            raw = [await self.process.stdout.readline() for _ in range(count)]
        return [line.decode().strip() for line in raw]


@contextlib.asynccontextmanager
async def dashboard(hub: RunningHub, language: str) -> AsyncIterator[Dashboard]:
    """Run a dashboard of the page."""
    process = await asyncio.create_subprocess_exec(
        *command(language), cwd=FOLDER, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "SWARM_HUB_URL": hub.url, "SWARM_HUB_TOKEN": hub.token},
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(block(language).encode())
        process.stdin.close()
        yield Dashboard(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def commit(hub: RunningHub, first: int, count: int) -> list[str]:
    """Commit events of nodes, with others between them; returns the lines that tell of them."""
    lines = []
    for number in range(first, first + count):
        node_id = f"node-{number}"
        wanted = NewEvent(EventType.NODE_UP, {"node_id": node_id})
        other = NewEvent(EventType.NODE_DRAINED, {"node_id": node_id})
        await hub.hub.store.commit([], [wanted, other])
        lines.append(f"{hub.hub.store.last_seq - 1} node_up {node_id}")
    return lines


@pytest.mark.parametrize("language", ["python", "js"])
async def test_a_dashboard_shows_every_event_once_over_a_restart(
    swarm: Swarm, language: str
) -> None:
    port = free_port()
    yaml = f"gateway: {{admission: open}}\napi: {{port: {port}}}\n"
    gateway = await swarm.start("gateway", yaml, port)
    before = await commit(gateway, 0, 3)
    async with dashboard(gateway, language) as shown:
        if language == "js":
            assert await shown.lines(1) == [f"connected to {gateway.hub.name}"]
        assert await shown.lines(3) == before
        live = await commit(gateway, 3, 3)
        assert await shown.lines(3) == live
        await swarm.stop(gateway)
        gateway = await swarm.start("gateway", yaml, port)
        after = await commit(gateway, 6, 3)
        assert await shown.lines(3) == after
        if language == "js":
            shown.process.send_signal(signal.SIGINT)
            assert await shown.lines(1) == ["unsubscribed"]
            assert await shown.process.wait() == 0
