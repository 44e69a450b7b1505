"""Web pages of other sites: those that are named may call, and read what is answered."""

import aiohttp
import pytest

from swarm_hub.cli.swarm import free_port
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, live

PAGE = "https://dashboard.example.org"


@pytest.fixture
async def hub(swarm: Swarm) -> RunningHub:
    port = free_port()
    yaml = f"gateway:\napi: {{port: {port}, cors_allowed_origins: ['{PAGE}:443']}}\n"
    return await swarm.start("gateway", yaml, port)


async def headers_of(
    hub: RunningHub, method: str, path: str, **headers: str
) -> tuple[int, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{hub.url}/api/v1{path}", headers=headers) as response,
    ):
        return response.status, dict(response.headers)


async def test_a_page_that_is_named_asks_first_and_reads_the_answer(hub: RunningHub) -> None:
    wanted = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    code, told = await headers_of(hub, "OPTIONS", "/jobs", **wanted)
    assert code == 204
    assert told["Access-Control-Allow-Origin"] == PAGE
    assert "Authorization" in told["Access-Control-Allow-Headers"]
    assert "POST" in told["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in told
    for token, status in ((hub.token, 200), ("wrong", 401)):
        code, told = await headers_of(
            hub, "GET", "/jobs", Origin=PAGE, Authorization=f"Bearer {token}"
        )
        assert (code, told["Access-Control-Allow-Origin"]) == (status, PAGE)
        assert told["Vary"] == "Origin"


async def test_a_page_may_send_and_see_each_header_that_a_call_has(hub: RunningHub) -> None:
    wanted = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    _, told = await headers_of(hub, "OPTIONS", "/jobs", **wanted)
    sent = told["Access-Control-Allow-Headers"].split(", ")
    _, told = await headers_of(hub, "GET", "/jobs", Origin=PAGE)
    seen = told["Access-Control-Expose-Headers"].split(", ")
    views = hub.hub.endpoints.views
    assert {name for view in views for name in view.request_headers} <= set(sent)
    assert {name for view in views for name in view.answer_headers} <= set(seen)


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://dashboard.example.org", "null", f"{PAGE}:8443"]
)
async def test_any_other_page_is_refused(hub: RunningHub, origin: str) -> None:
    wanted = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    for method in ("OPTIONS", "GET"):
        code, told = await headers_of(hub, method, "/jobs", **wanted)
        assert code == 403
        assert "Access-Control-Allow-Origin" not in told
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with live(hub, headers={"Origin": origin}):
            pass


async def test_a_page_that_is_named_may_open_the_websocket(hub: RunningHub) -> None:
    async with live(hub, headers={"Origin": PAGE}) as client:
        assert (await client.command("ping"))["type"] == "pong"


async def test_options_of_no_page_tells_the_methods_to_who_has_a_token(hub: RunningHub) -> None:
    code, answer = await call(hub, "OPTIONS", "/jobs")
    assert (code, answer) == (204, b"")
    code, _ = await call(hub, "OPTIONS", "/jobs", token=None)
    assert code == 401
