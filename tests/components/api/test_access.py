"""Who may call what."""

from unittest.mock import AsyncMock

import pytest

from swarm_hub.components.api import logins
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call

ROUTES = [
    ("POST", "/jobs", "submit"),
    ("GET", "/jobs", "read"),
    ("GET", "/jobs/x", "read"),
    ("DELETE", "/jobs/x", "submit"),
    ("GET", "/jobs/x/result", "read"),
    ("GET", "/jobs/x/shards", "read"),
    ("GET", "/jobs/x/failures", "read"),
    ("GET", "/jobs/x/story", "read"),
    ("GET", "/nodes", "read"),
    ("POST", "/nodes/x/ban", "admin"),
    ("POST", "/nodes/x/unban", "admin"),
    ("POST", "/nodes/x/approve", "admin"),
    ("GET", "/gateways", "read"),
    ("GET", "/invites", "read"),
    ("POST", "/invites", "admin"),
    ("DELETE", "/invites/x", "admin"),
    ("GET", "/health", "read"),
    ("GET", "/nothing/here", "read"),
]
SCOPES = ("read", "submit", "admin")


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


def tokens(hub: RunningHub) -> TokenFile:
    return TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer swh_wrong", "Basic dTpw", "swh_wrong", "Bearer ü"],
)
async def test_every_route_wants_a_token(
    gateway: RunningHub, authorization: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That failed logins wait, each longer than the one before, is shown in test_owners.
    waited = AsyncMock()
    monkeypatch.setattr(logins, "_pause", waited)
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, path, _ in ROUTES:
        code, body = await call(gateway, method, path, token=None, headers=headers)
        assert (code, body["code"]) == (401, "unauthorized"), path
        assert "swarm-hub token create" in body["message"]
    assert waited.await_count == (len(ROUTES) if authorization else 0)


async def test_a_token_is_not_taken_from_the_address(gateway: RunningHub) -> None:
    query = {"token": gateway.token, "access_token": gateway.token}
    code, _ = await call(gateway, "GET", "/jobs", token=None, params=query)
    assert code == 401


async def test_a_scope_includes_those_before_it_and_no_other(gateway: RunningHub) -> None:
    secrets = {scope: tokens(gateway).create(scope, scope, 0.0)[1] for scope in SCOPES}
    for method, path, needed in ROUTES:
        for scope, secret in secrets.items():
            code, body = await call(gateway, method, path, token=secret)
            allowed = SCOPES.index(scope) >= SCOPES.index(needed)
            assert (code == 403) is not allowed, f"{method} {path} by {scope}: {code} {body}"
            if not allowed:
                assert body["code"] == "wrong_scope"
                assert needed in body["message"]


async def test_the_scheme_is_not_case_sensitive(gateway: RunningHub) -> None:
    headers = {"Authorization": f"bearer {gateway.token}"}
    assert (await call(gateway, "GET", "/health", token=None, headers=headers))[0] == 200


async def test_a_token_made_beside_the_running_hub_works_until_it_is_revoked(
    gateway: RunningHub,
) -> None:
    made, secret = tokens(gateway).create("late", "read", 0.0)
    assert (await call(gateway, "GET", "/health", token=secret))[0] == 200
    assert tokens(gateway).revoke(made.id)
    assert (await call(gateway, "GET", "/health", token=secret))[0] == 401
    assert (await call(gateway, "GET", "/health"))[0] == 200


async def test_the_file_holds_no_secret(gateway: RunningHub) -> None:
    path = gateway.folder / STORAGE_DIR / TOKENS_FILE
    assert gateway.token not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"],
)
async def test_a_page_of_another_site_is_refused(gateway: RunningHub, origin: str) -> None:
    for method, path, _ in ROUTES:
        code, body = await call(gateway, method, path, headers={"Origin": origin})
        assert (code, body["code"]) == (403, "foreign_origin")


async def test_a_page_of_this_hub_is_served(gateway: RunningHub) -> None:
    assert (await call(gateway, "GET", "/health", headers={"Origin": gateway.url}))[0] == 200


async def test_errors_have_one_shape(gateway: RunningHub) -> None:
    for method, path, status in [
        ("GET", "/nothing/here", 404),
        ("PUT", "/jobs", 405),
        ("GET", "/jobs/x", 404),
        ("POST", "/nodes/x/ban", 404),
    ]:
        code, body = await call(gateway, method, path)
        assert code == status
        assert set(body) == {"message", "code", "errors"}
