"""Fixtures: a hub with Python and a worker, for all tests of a module."""

from collections.abc import Iterator, Sequence

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from tests.helpers.runtimes import running_python


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSwarm]:
    """Return a gateway that has Python, and its worker."""
    with running_python(tmp_path_factory.mktemp("swarm")) as swarm:
        yield swarm


@pytest.fixture
def gateway(started: LocalSwarm) -> LocalHub:
    """Return the gateway."""
    return started.hubs[0]


@pytest.fixture
def outliving(request: pytest.FixtureRequest) -> Sequence[LocalHub]:
    """Return the processes that the tests of a module share."""
    if "gateway" not in request.fixturenames:
        return ()
    started: LocalSwarm = request.getfixturevalue("started")
    return started.hubs
