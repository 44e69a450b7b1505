"""Links for downloads: once, for a minute, and for nobody who may not get it himself."""

import time
from typing import Any

import aiohttp
import pytest

from swarm_hub.components.api import links
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


async def link(hub: RunningHub, path: str, **options: Any) -> str:
    body = {"path": path, **options.pop("body", {})}
    status, made = await call(hub, "POST", "/links", json=body, **options)
    assert (status, made["expires_s"]) == (201, 60), made
    return str(made["url"]).removeprefix("/api/v1")


async def test_a_link_gives_once_what_its_maker_may_get_as_a_file(gateway: RunningHub) -> None:
    path = await link(gateway, "/api/v1/jobs?limit=5", body={"filename": "my jobs\r\n“1”.json"})
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/api/v1{path}") as response,
    ):
        assert (response.status, await response.json()) == (200, {"jobs": [], "cursor": None})
        assert response.headers["Content-Disposition"] == (
            "attachment; filename*=UTF-8''my%20jobs%0D%0A%E2%80%9C1%E2%80%9D.json"
        )
        assert response.headers["Cache-Control"] == "no-store"
        assert "ETag" not in response.headers
    assert (await call(gateway, "GET", path, token=None))[0] == 404


async def test_a_link_gives_the_bytes_of_a_result(
    gateway: RunningHub, swarm: Swarm, modules: dict[str, bytes]
) -> None:
    await swarm.worker("worker")
    spec = {"split": "lines", "reduce": "concat"}
    _, job = await submit(gateway, modules["cat"], b"one\ntwo\n", spec)
    await finished(gateway, job["job_id"])
    path = await link(gateway, f"/api/v1/jobs/{job['job_id']}/result")
    assert await call(gateway, "GET", path, token=None) == (200, b"one\ntwo\n")


async def test_a_link_ends_with_its_time_and_with_the_token_of_its_maker(
    gateway: RunningHub,
) -> None:
    late = await link(gateway, "/api/v1/health")
    gateway.clock.monotonic_offset_s += links.LINK_LIVES_S
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    made, secret = tokens.create("gone", "read", time.time())
    orphan = await link(gateway, "/api/v1/health", token=secret)
    tokens.revoke(made.id)
    for path in (late, orphan, "/links/guessed"):
        status, refused = await call(gateway, "GET", path, token=None)
        assert (status, refused["code"]) == (404, "no_link")


async def test_nobody_gets_more_by_a_link_than_without(gateway: RunningHub) -> None:
    _, secret = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE).create("r", "read", 0.0)
    body = {"path": "/api/v1/diagnostics"}
    status, _ = await call(gateway, "POST", "/links", json=body, token=secret)
    assert status == 403
    assert (await call(gateway, "POST", "/links", json=body, token=None))[0] == 401
    # What is refused at the use is refused there.
    path = await link(gateway, "/api/v1/jobs/no%20such/result", token=secret)
    status, refused = await call(gateway, "GET", path, token=None)
    assert (status, refused["code"]) == (404, "not_found")
    assert "no such" in refused["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nothing", "/metrics", "jobs", "http://elsewhere/api/v1/jobs", "//[",
        "/api/v1/jobs/",
        "/api/v1/jobs/../health", "/api/v1/links", "/api/v1/jobs/x/changes",
    ],
)  # fmt: skip
async def test_a_link_to_nothing_is_refused(gateway: RunningHub, path: str) -> None:
    status, refused = await call(gateway, "POST", "/links", json={"path": path})
    assert (status, refused["code"]) == (404, "unknown_path")


async def test_a_link_with_a_query_that_its_view_does_not_know_is_refused(
    gateway: RunningHub,
) -> None:
    body = {"path": "/api/v1/jobs?limt=5"}
    status, refused = await call(gateway, "POST", "/links", json=body)
    assert (status, refused["code"]) == (422, "invalid_query")


async def test_links_are_bounded(gateway: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "LINKS_PER_CALLER", 2)
    for _ in range(2):
        await link(gateway, "/api/v1/health")
    body = {"path": "/api/v1/health"}
    status, refused = await call(gateway, "POST", "/links", json=body)
    assert (status, refused["code"]) == (429, "too_many_links")
    gateway.clock.monotonic_offset_s += links.LINK_LIVES_S
    await link(gateway, "/api/v1/health")
