"""HEAD, OPTIONS and methods that a path does not take."""

from collections.abc import Mapping

import aiohttp
import pytest

from tests.conftest import RunningHub, Swarm

# A HEAD, an OPTIONS or a PUT may give each of these another value.
CHANGING = {"Date", "Content-Length", "Allow"}


async def ask(
    hub: RunningHub, method: str, path: str, token: str | None = ""
) -> tuple[int, Mapping[str, str], bytes]:
    secret = hub.token if token == "" else token
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, hub.url + path, headers=headers) as response,
    ):
        return response.status, response.headers, await response.read()


async def test_head_answers_like_get_without_a_body(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    for path in (
        "/api/v1/health", "/api/v1/jobs", "/api/v1/nodes", "/api/v1/jobs/x", "/api/v1/jobs?x=1",
        "/api/v1/nothing/here", "/nowhere",
    ):  # fmt: skip
        status, headers, body = await ask(gateway, "GET", path)
        head_status, head_headers, nothing = await ask(gateway, "HEAD", path)
        assert (head_status, nothing) == (status, b""), path
        assert body
        assert head_headers["Content-Length"] == str(len(body))
        assert head_headers["Content-Type"] == headers["Content-Type"]
        assert head_headers.keys() - CHANGING == headers.keys() - CHANGING
    status, _, nothing = await ask(gateway, "HEAD", "/api/v1/health", token=None)
    assert (status, nothing) == (401, b"")


async def test_options_tells_the_methods_to_whoever_has_a_token(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, headers, body = await ask(gateway, "OPTIONS", "/api/v1/jobs")
    assert (status, headers["Allow"], body) == (204, "GET, HEAD, OPTIONS, POST", b"")
    assert (await ask(gateway, "OPTIONS", "/api/v1/jobs", token=None))[0] == 401
    assert (await ask(gateway, "OPTIONS", "/api/v1/nothing"))[0] == 404


async def test_a_path_without_names_takes_its_own_methods_alone(swarm: Swarm) -> None:
    """Not those of /jobs/{job_id} besides, which it would fit as well."""
    gateway = await swarm.gateway()
    status, headers, _ = await ask(gateway, "OPTIONS", "/api/v1/jobs/cancel")
    assert (status, headers["Allow"]) == (204, "OPTIONS, POST")
    status, headers, _ = await ask(gateway, "PUT", "/api/v1/jobs/cancel")
    assert (status, headers["Allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "MKCOL"])
async def test_another_method_is_405_and_says_which_there_are(swarm: Swarm, method: str) -> None:
    gateway = await swarm.gateway()
    status, headers, body = await ask(gateway, method, "/api/v1/jobs")
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert b'"code":"method_not_allowed"' in body
