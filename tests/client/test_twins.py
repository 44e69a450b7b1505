"""The blocking twin has what the asynchronous one has: calls, parameters, examples."""

import inspect
from typing import Any

import pytest

from swarm_hub import client
from swarm_hub.client import AsyncJob, AsyncSwarm, Job, Swarm

# A job is awaited on the one hand, and has a future on the other.
ONLY_BLOCKING = {"future"}


def calls(kind: type) -> dict[str, Any]:
    found = inspect.getmembers(
        kind, lambda each: inspect.isfunction(each) or isinstance(each, property)
    )
    return {name: member for name, member in found if not name.startswith("_")}


@pytest.mark.parametrize(("blocking", "other"), [(Swarm, AsyncSwarm), (Job, AsyncJob)])
def test_both_have_the_same_calls_with_the_same_parameters(blocking: type, other: type) -> None:
    mine, theirs = calls(blocking), calls(other)
    assert mine.keys() - ONLY_BLOCKING == theirs.keys()
    for name, member in theirs.items():
        if isinstance(member, property):
            assert isinstance(mine[name], property), name
            continue
        assert inspect.signature(mine[name]).parameters == inspect.signature(member).parameters, (
            name
        )
    assert inspect.signature(blocking).parameters.keys() - {"twin", "loop"} == (
        inspect.signature(other).parameters.keys() - {"job_id", "swarm", "status"}
    )


@pytest.mark.parametrize(("blocking", "other"), [(Swarm, AsyncSwarm), (Job, AsyncJob)])
def test_their_examples_differ_in_what_awaits(blocking: type, other: type) -> None:
    theirs = calls(other)
    for name, member in calls(blocking).items():
        assert ">>>" in member.__doc__, name
        for line in member.__doc__.splitlines():
            if line.lstrip().startswith((">>>", "...")):
                assert "await" not in line, name
                assert "async " not in line, name
        if name not in ONLY_BLOCKING:
            count = theirs[name].__doc__.count(">>>")
            assert member.__doc__.count(">>>") >= min(count, 1), name


def test_the_earlier_names_are_the_same_classes() -> None:
    assert client.SwarmClient is AsyncSwarm
    assert client.BlockingSwarmClient is Swarm


def test_every_public_name_is_there() -> None:
    assert sorted(client.__all__) == client.__all__
    assert all(hasattr(client, name) for name in client.__all__)
