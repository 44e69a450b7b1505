"""The way in by a one-time code, and what becomes of the token that it turns into."""

import time
from typing import Any
from unittest.mock import AsyncMock

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.api import URLS, logins, sessions
from swarm_hub.const import AUDIT_FILE, STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.models import token
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, live


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


def token_file(hub: RunningHub) -> TokenFile:
    return TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)


async def code(hub: RunningHub, scope: str = "read", **options: Any) -> str:
    status, made = await call(hub, "POST", "/sessions/codes", json={"scope": scope}, **options)
    assert (status, made["expires_s"], made["urls"]) == (201, 600, [hub.url])
    return str(made["code"])


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("0.0.0.0", ["localhost", "192.0.2.7"]),
        ("::", ["localhost", "[2001:db8::1]"]),
        ("127.0.0.1", ["127.0.0.1"]),
    ],
)
async def test_a_code_comes_with_the_addresses_at_which_browsers_find_the_hub(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, host: str, found: list[str]
) -> None:
    ips = ["127.0.0.1", "::1", "192.0.2.7", "fe80::1", "2001:db8::1"]
    monkeypatch.setattr("swarm_hub.components.api.server.interface_ips", lambda: ips)
    port = free_port()
    yaml = f"gateway:\napi: {{port: {port}, host: '{host}'}}\n"
    hub = await swarm.start("gateway", yaml, port)
    urls = hub.hub.services[URLS]()
    others = [url for url in urls if "127.0.0.1" not in url and "[::1]" not in url]
    assert (others or urls) == [f"http://{each}:{port}" for each in found]
    assert urls[0] == f"http://{found[0]}:{port}"


async def begin(hub: RunningHub, text: str) -> tuple[int, Any]:
    return await call(hub, "POST", "/sessions", json={"code": text}, token=None)


async def test_a_code_becomes_a_token_of_its_makers_owner_once(gateway: RunningHub) -> None:
    made, secret = token_file(gateway).create("ada's laptop", "admin", time.time(), owner="ada")
    text = await code(gateway, "submit", token=secret)
    status, session = await begin(gateway, text)
    assert (status, session["scope"], session["owner"]) == (201, "submit", "ada")
    assert session["name"].startswith("page, opened ")
    _, who = await call(gateway, "GET", "/sessions/current", token=session["token"])
    assert (who["owner"], who["scope"], who["revocable"]) == ("ada", "submit", True)
    assert who["hub"]["roles"] == ["gateway"]
    _, who = await call(gateway, "GET", "/sessions/current", token=secret)
    assert (who["name"], who["revocable"]) == (made.name, False)
    status, refused = await begin(gateway, text)
    assert (status, refused["code"]) == (401, "unknown_code")
    assert "swarm-hub open" in refused["message"]


async def test_logging_out_ends_the_token_and_its_websocket(gateway: RunningHub) -> None:
    _, session = await begin(gateway, await code(gateway))
    secret = session["token"]
    async with live(gateway, secret) as client:
        status, ended = await call(gateway, "DELETE", "/sessions/current", token=secret)
        assert (status, ended) == (200, {"name": session["name"]})
        assert (await call(gateway, "GET", "/health", token=secret))[0] == 401
        message = await client.socket.receive(timeout=90)
        assert "revoked" in str(message.extra)
    assert len(token_file(gateway).all()) == 1
    status, refused = await call(gateway, "DELETE", "/sessions/current")
    assert (status, refused["code"]) == (409, "no_session")
    assert (await call(gateway, "GET", "/health"))[0] == 200


async def test_a_code_ends_with_its_time_its_place_and_its_makers_token(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = AsyncMock()
    monkeypatch.setattr(logins, "_pause", waited)
    late = await code(gateway)
    gateway.clock.monotonic_offset_s += sessions.CODE_LIVES_S
    made, secret = token_file(gateway).create("gone", "admin", time.time())
    orphan = await code(gateway, token=secret)
    token_file(gateway).revoke(made.id)
    first = await code(gateway)
    for _ in range(sessions.CODES_MAX):
        await code(gateway)
    for text in (late, orphan, first, "guessed"):
        assert (await begin(gateway, text))[0] == 401
    # Each guess waits longer than the one before, as a wrong token does.
    assert [each.args[0] for each in waited.await_args_list] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "scope: required key not provided"),
        ({"scope": "root"}, "scope: expected one of read, submit, admin"),
        ({"scope": "read", "name": "x" * 65}, "64"),
    ],
)
async def test_a_code_that_can_not_be_is_refused(gateway: RunningHub, body: Any, said: str) -> None:
    status, refused = await call(gateway, "POST", "/sessions/codes", json=body)
    assert status == 422
    assert said in refused["message"]


async def test_who_may_not_make_codes_is_told(gateway: RunningHub) -> None:
    _, secret = token_file(gateway).create("s", "submit", time.time())
    body = {"scope": "read"}
    status, _ = await call(gateway, "POST", "/sessions/codes", json=body, token=secret)
    assert status == 403


async def test_the_audit_log_names_the_maker_and_the_session(gateway: RunningHub) -> None:
    _, session = await begin(gateway, await code(gateway, "admin"))
    await call(gateway, "DELETE", "/sessions/current", token=session["token"])
    path = gateway.folder / STORAGE_DIR / AUDIT_FILE

    async def lines() -> list[str]:
        return path.read_text().splitlines()

    made, begun, ended = await until(lines, lambda found: len(found) == 3)
    assert "t (token" in made
    assert "POST /api/v1/sessions/codes 201" in made
    assert f" {session['name']} (token" in begun
    assert "owner t)" in begun
    assert "POST /api/v1/sessions 201" in begun
    assert "DELETE /api/v1/sessions/current 200" in ended
    assert session["token"] not in path.read_text()


def test_sessions_that_are_over_leave_the_file_and_of_too_many_the_oldest(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token, "SESSIONS_MAX", 2)
    file = TokenFile(tmp_path / "tokens.json")
    file.create("kept", "read", 0.0, expires_at=1.0)
    assert "session" not in (tmp_path / "tokens.json").read_text()
    for number in range(3):
        file.create(f"s{number}", "read", float(number), expires_at=10.0, session=True)
    assert [each.name for each in file.all()] == ["kept", "s1", "s2"]
    file.create("new", "read", 11.0, expires_at=20.0, session=True)
    assert [each.name for each in file.all()] == ["kept", "new"]
