"""Hubs that start quickly, for tests in which many of them are killed."""

import os

import pytest

from swarm_hub.cli.swarm import LocalHub
from tests import warm


@pytest.fixture
def warm_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the hubs of `LocalSwarm` from a process that has imported everything."""

    def start(hub: LocalHub) -> None:
        with (hub.folder / "hub.log").open("ab") as log:
            hub.process = warm.start(  # type: ignore[assignment]
                "swarm_hub", ["run", "-c", hub.folder], stdout=log, stderr=log, env=os.environ
            )

    monkeypatch.setattr(LocalHub, "start", start)
