"""The API on the hub's unix socket: for its own user, with a token or without one."""

import os
import socket
import stat
import struct

import pytest

from swarm_hub.cli.options import Target, target
from swarm_hub.client import ApiError, SwarmClient, UnreachableError
from swarm_hub.components.api import connections
from swarm_hub.const import API_SOCKET
from tests.conftest import RunningHub, Swarm


@pytest.fixture
async def hub(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


def by_socket(hub: RunningHub, token: str | None = None) -> SwarmClient:
    return SwarmClient(f"unix://{hub.folder / API_SOCKET}", token)


async def test_its_own_user_needs_no_token(hub: RunningHub) -> None:
    assert stat.S_IMODE((hub.folder / API_SOCKET).stat().st_mode) == 0o600
    async with by_socket(hub) as client:
        assert await client.jobs() == []
        # Which only an admin may.
        assert (await client.ban_network("203.0.113.0/24"))["network"] == "203.0.113.0/24"
        events = client.events(since=0)
        assert (await anext(events))["event_type"]
        await events.aclose()


async def test_a_token_counts_for_what_it_is(hub: RunningHub) -> None:
    async with by_socket(hub, hub.token) as client:
        assert await client.jobs() == []
    async with by_socket(hub, "swh_wrong") as client:
        with pytest.raises(ApiError) as caught:
            await client.jobs()
    assert caught.value.status == 401


async def test_another_user_at_the_socket_needs_a_token(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strangers(struct.Struct):
        def unpack(self, buffer: bytes) -> tuple[int, ...]:  # type: ignore[override]
            process, user, group = super().unpack(buffer)
            assert user == os.geteuid()
            return process, 54321, group

    monkeypatch.setattr(connections, "_UCRED", Strangers("iII"))
    async with by_socket(hub) as client:
        with pytest.raises(ApiError) as caught:
            await client.jobs()
    assert caught.value.status == 401


async def test_the_command_line_prefers_it_while_the_hub_runs(
    swarm: Swarm, hub: RunningHub
) -> None:
    url = target(hub.folder, None, None).url
    assert url == f"unix://{hub.folder / API_SOCKET}"
    assert target(hub.folder, "http://h:1", "t") == Target("http://h:1", "t")
    await swarm.stop(hub)
    assert not (hub.folder / API_SOCKET).exists()
    url = target(hub.folder, None, None).url
    assert url == hub.url


async def test_one_that_a_killed_hub_left_is_passed_over_and_replaced(
    swarm: Swarm, hub: RunningHub
) -> None:
    path = hub.folder / API_SOCKET
    await swarm.stop(hub)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    url = target(hub.folder, None, None).url
    assert url == hub.url
    async with SwarmClient(f"unix://{path}") as client:
        with pytest.raises(UnreachableError):
            await client.health()
    again = await swarm.gateway()
    async with by_socket(again) as client:
        assert (await client.health())["ok"] is True


async def test_a_path_that_is_too_long_for_a_socket_is_shortened(swarm: Swarm) -> None:
    hub = await swarm.gateway("g" * 64)
    url = target(hub.folder, None, None).url
    assert url.startswith("unix:///")
    async with SwarmClient(url) as client:
        assert (await client.health())["ok"] is True
