"""Fixtures: sandboxes with real children, that are stopped at the end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers.sandboxes import Bench, Tasks


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


@pytest.fixture
async def new_sandbox(
    tmp_path: Path, tasks: Tasks
) -> AsyncIterator[Callable[..., Awaitable[Sandbox]]]:
    """Make sandboxes over one cache directory; all are stopped at the end."""
    made: list[Sandbox] = []

    async def make(**options: Any) -> Sandbox:
        sandbox = Sandbox(
            **{"cache_dir": tmp_path / "cache", "slots": 1, "spawn": tasks.spawn, **options}
        )
        await sandbox.start()
        made.append(sandbox)
        return sandbox

    yield make
    for sandbox in made:
        await sandbox.stop()
    await tasks.settle()
    assert tasks.failures == []
    for sandbox in made:
        assert sandbox.stats().children == 0


@pytest.fixture
async def bench(new_sandbox: Callable[..., Awaitable[Sandbox]]) -> Bench:
    return Bench(await new_sandbox())


@pytest.fixture
async def bench_2(new_sandbox: Callable[..., Awaitable[Sandbox]]) -> Bench:
    return Bench(await new_sandbox(slots=2))
