"""Every view that a hub has, by whoever may not call it; a new view can't be missing here."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import voluptuous as vol

from swarm_hub.components.api.openapi.json_schemas import Schemas
from swarm_hub.components.api.openapi.samples import sample
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.endpoints import RawBody, Scope, View
from swarm_hub.helpers.tokens import SCOPES, TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import submit

EVERYTHING = "worker: {charging_only: false}\ncontent:\nautomation:\n"


class Asking:
    """Asks each view of a hub, with another token each time."""

    def __init__(self, hub: RunningHub, session: aiohttp.ClientSession) -> None:
        self.hub = hub
        self.tokens = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
        self._session = session

    @property
    def views(self) -> list[View]:
        return [view for view in self.hub.hub.endpoints.views if view.scope is not Scope.PUBLIC]

    async def ask(
        self, view: View, token: str | None, method: str | None = None, **path: str
    ) -> tuple[int, Any]:
        """Return the status and the body of an answer."""
        filled = view.path
        for name in (part[1:-1] for part in view.path.split("/") if part.startswith("{")):
            filled = filled.replace(f"{{{name}}}", path.get(name, "x"))
        url = f"{self.hub.url}{'' if view.outside else '/api/v1'}{filled}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        body = None
        if isinstance(view.body, RawBody):
            headers["Content-Type"] = next(iter(view.body.media_types))
        elif view.body is not None:
            schemas = Schemas()
            schema = schemas.of_validator(view.body)
            body = json.dumps(sample(schema, schemas.named))
        # What has to be in a query takes a number.
        query = {str(key): "0" for key in view.query if isinstance(key, vol.Required)}
        asked = self._session.request(
            method or view.method, url, params=query, headers=headers, data=body
        )
        async with asked as response:
            if response.content_type == "text/event-stream":
                return response.status, b""
            is_json = response.content_type == "application/json" and method is None
            return response.status, await response.json() if is_json else await response.read()


@pytest.fixture
async def asking(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    async def at_once(_delay_s: float) -> None:
        pass

    monkeypatch.setattr("swarm_hub.components.api.logins._pause", at_once)
    gateway = await swarm.gateway(extra=EVERYTHING)
    async with aiohttp.ClientSession() as session:
        yield Asking(gateway, session)


async def test_no_view_answers_without_a_token_that_holds(asking: Asking) -> None:
    now = time.time()
    revoked, revoked_secret = asking.tokens.create("revoked", "admin", now)
    _, expired_secret = asking.tokens.create("expired", "admin", now, expires_at=now + 60)
    assert asking.tokens.revoke(revoked.id)
    asking.hub.clock.offset_s += 61
    assert len(asking.views) > 20
    for view in asking.views:
        for secret in (None, "swh_wrong", revoked_secret, expired_secret):
            status, body = await asking.ask(view, secret)
            assert (status, body["code"]) == (401, "unauthorized"), f"{view}: {status} {body}"


async def test_no_view_answers_a_token_of_too_narrow_a_scope(asking: Asking) -> None:
    secrets = {name: asking.tokens.create(name, name, time.time())[1] for name in SCOPES}
    n_refused = 0
    for view in asking.views:
        assert view.scope is not None
        for name in SCOPES[: SCOPES.index(view.scope)]:
            status, body = await asking.ask(view, secrets[name])
            assert (status, body["code"]) == (403, "wrong_scope"), f"{view}: {status} {body}"
            assert view.scope.value in body["message"]
            n_refused += 1
    assert n_refused > 10


async def test_no_view_of_a_job_answers_another_owner(
    asking: Asking, modules: dict[str, bytes]
) -> None:
    """Nor does its answer differ from that of a job that does not exist, but for the id."""
    _, ada = asking.tokens.create("ada", "submit", time.time())
    _, bob = asking.tokens.create("bob", "submit", time.time())
    code, taken = await submit(asking.hub, modules["primes"], b"0:10", token=ada)
    assert code == 202
    job_id = taken["job_id"]
    missing_id = f"{job_id[:-4]}0000"
    of_jobs = [view for view in asking.views if "{job_id}" in view.path]
    assert len(of_jobs) >= 7
    for view in of_jobs:
        if view.scope is Scope.ADMIN:
            continue
        found = await asking.ask(view, bob, job_id=job_id)
        assert found[0] == 404, f"{view}: {found}"
        missing = await asking.ask(view, bob, job_id=missing_id)
        assert str(missing).replace(missing_id, job_id) == str(found), f"{view}"
        # Its owner is answered; what is there of the job is no matter here.
        status, answer = await asking.ask(view, ada, job_id=job_id)
        assert status not in (401, 403), f"{view}"
        assert "there is no job" not in str(answer), f"{view}"


async def test_every_view_of_get_answers_head_and_every_path_options(asking: Asking) -> None:
    for view in asking.hub.hub.endpoints.views:
        if view.method == "GET":
            status, _ = await asking.ask(view, asking.hub.token)
            assert await asking.ask(view, asking.hub.token, "HEAD") == (status, b""), f"{view}"
        assert await asking.ask(view, asking.hub.token, "OPTIONS") == (204, b""), f"{view}"
        status, body = await asking.ask(view, asking.hub.token, "MKCOL")
        assert status == 405, f"{view}"
        assert b'"method_not_allowed"' in body
