"""A lab for each test, or a clear word why there is none."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.networks.lab import Lab, missing, namespaces, open_lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Return an empty lab; where there can be none, CI fails and others skip."""
    if (why := missing()) is not None:
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    async with open_lab(tmp_path) as made:
        yield made
    assert not [name for name in namespaces() if f"-{os.getpid()}-" in name]
