"""Fixtures that run commands, in turn with the hubs of this process or beside them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.command_line import Done, Run, run_process


@pytest.fixture
def run() -> Run:
    """Return a way to run a command and wait for it."""
    return run_process


@pytest.fixture
def run_beside() -> Callable[..., Any]:
    """Return a way to run a command while the hubs of this process go on."""

    async def start(*arguments: object, **options: Any) -> Done:
        return await asyncio.to_thread(run_process, *arguments, **options)

    return start
