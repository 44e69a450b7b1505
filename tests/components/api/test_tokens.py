"""Tokens in a file and in a store that gateways share behave alike; the latter are good at all."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.stored_tokens import StoredTokens
from swarm_hub.helpers.tokens import FileTokens, Tokens
from swarm_hub.models import token as limits
from swarm_hub.storage import Store
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.clock import Clock
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.command_line import Done, run_process
from tests.helpers.rest import call


@pytest.fixture(params=["file", "store"])
async def tokens(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Tokens]:
    if request.param == "file":
        yield FileTokens(tmp_path / "tokens.json")
        return
    # The statements are the same on PostgreSQL, where the tests below use them.
    store = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    await store.open()
    supervisor = TaskSupervisor()
    yield StoredTokens(store, Clock(), supervisor)
    await supervisor.stop(1)
    await store.close()


async def test_a_token_is_found_by_its_secret_until_it_expires_or_is_revoked(
    tokens: Tokens,
) -> None:
    made, secret = await tokens.create("ci", "submit", 1.0, owner="anna", expires_at=9.0)
    assert await tokens.find(secret, 2.0) == made
    assert (made.name, made.scope, made.account, made.session) == ("ci", "submit", "anna", False)
    assert tokens.current(made, 2.0)
    assert (await tokens.find(secret, 9.0), tokens.current(made, 9.0)) == (None, False)
    for wrong in ("", secret + "x", "x" * 10_000, "\ud800"):
        assert await tokens.find(wrong, 2.0) is None
    assert await tokens.revoke(made.id)
    assert (await tokens.find(secret, 2.0), tokens.current(made, 2.0)) == (None, False)
    assert not await tokens.revoke(made.id)


async def test_sessions_that_are_over_go_and_of_too_many_the_oldest(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 2)
    await tokens.create("kept", "read", 0.0, expires_at=1.0)
    for number in range(3):
        await tokens.create(f"s{number}", "read", float(number), expires_at=10.0, session=True)
    assert [each.name for each in await tokens.all()] == ["kept", "s1", "s2"]
    await tokens.create("new", "read", 11.0, expires_at=20.0, session=True)
    assert [(each.name, each.session) for each in await tokens.all()] == [
        ("kept", False), ("new", True),
    ]  # fmt: skip
    with pytest.raises(HubError, match="printable characters"):
        await tokens.create("a\nb", "read", 0.0)


async def test_a_token_of_one_gateway_is_good_at_the_other_until_it_is_revoked_anywhere(
    swarm: Swarm, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first = await swarm.gateway("first", extra=extra)
    second = await swarm.gateway("second", extra=extra)
    # What was in a file before the first start is in the store.
    assert not (first.folder / STORAGE_DIR / TOKENS_FILE).exists()
    assert (await call(second, "GET", "/jobs", token=first.token))[0] == 200
    made = json.loads((await token(first, "create", "ci", "--json")).out)

    async def status() -> int:
        return (await call(second, "GET", "/jobs", token=made["token"]))[0]

    assert await status() == 200
    listed = json.loads((await token(second, "list", "--json")).out)
    assert made["id"] in [each["id"] for each in listed]
    await token(first, "revoke", made["id"])
    await until(status, lambda code: code == 401, timeout_s=10)


async def test_a_token_is_made_for_hubs_that_are_stopped_or_says_why_not(
    swarm: Swarm, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    hub = await swarm.gateway("first", extra=extra)
    await swarm.stop(hub)
    made = json.loads((await token(hub, "create", "ci", "--json")).out)
    second = await swarm.gateway("second", extra=extra)
    assert (await call(second, "GET", "/jobs", token=made["token"]))[0] == 200
    path = hub.folder / "configuration.yaml"
    path.write_text(path.read_text().replace(postgres_url, "postgresql://hub@127.0.0.1:1/none"))
    refused = await token(hub, "create", "other")
    assert refused.code == 1
    assert "check that the server runs and that storage: url is right" in refused.err


async def token(hub: RunningHub, *words: str) -> Done:
    return await asyncio.to_thread(run_process, "token", *words, "-c", str(hub.folder))
