"""Tokens of owners: each sees and cancels its own jobs, and hears of no others."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.api import logins
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.exceptions import HubError, StoreUnavailableError
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import Live, call, finished, form, live, submit

Modules = dict[str, bytes]


def tokens(hub: RunningHub) -> TokenFile:
    return TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)


def token(hub: RunningHub, name: str, scope: str = "submit", **options: Any) -> str:
    return tokens(hub).create(name, scope, time.time(), **options)[1]


JOB_PATHS = ("", "/result", "/shards", "/failures", "/receipts", "/story")


async def test_a_token_sees_its_owners_jobs_and_nobody_elses(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    laptop, phone = token(gateway, "laptop", owner="ada"), token(gateway, "phone", owner="ada")
    other, reader = token(gateway, "bob"), token(gateway, "eve", "read")
    spec = {"env": {"SECRET": "s3cret"}}
    code, body = await submit(gateway, modules["primes"], b"0:10", spec, token=laptop)
    assert code == 202
    job_id = body["job_id"]
    await finished(gateway, job_id)
    for path in JOB_PATHS:
        for secret in (laptop, phone, reader, gateway.token):
            assert (await call(gateway, "GET", f"/jobs/{job_id}{path}", token=secret))[0] == 200
        code, told = await call(gateway, "GET", f"/jobs/{job_id}{path}", token=other)
        assert (code, told["code"]) == (404, "not_found")
        assert told["message"] == f"there is no job {job_id}"
    assert (await call(gateway, "DELETE", f"/jobs/{job_id}", token=other))[0] == 404
    assert (await call(gateway, "DELETE", f"/jobs/{job_id}", token=reader))[0] == 403
    assert (await call(gateway, "DELETE", f"/jobs/{job_id}", token=phone))[0] == 200
    for secret, seen in ((laptop, 1), (phone, 1), (other, 0), (reader, 1), (gateway.token, 1)):
        _, page = await call(gateway, "GET", "/jobs", token=secret)
        assert len(page["jobs"]) == seen
    for secret, value in ((phone, "s3cret"), (gateway.token, "s3cret"), (reader, "(hidden)")):
        _, status = await call(gateway, "GET", f"/jobs/{job_id}", token=secret)
        assert status["owner"] == "ada"
        assert status["spec"]["env"] == [["SECRET", value]]


async def test_a_token_from_before_there_were_owners_keeps_all_it_could(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    old = token(gateway, "old")
    path = gateway.folder / STORAGE_DIR / TOKENS_FILE
    plain = json.loads(path.read_bytes())
    for each in plain:
        if each["name"] == "old":
            del each["owner"], each["expires_at"]
    path.write_text(json.dumps(plain))
    _code, body = await submit(gateway, modules["primes"], b"0:10")
    assert (await call(gateway, "GET", f"/jobs/{body['job_id']}", token=old))[0] == 202
    assert (await call(gateway, "DELETE", f"/jobs/{body['job_id']}", token=old))[0] == 200


async def test_idempotency_keys_are_each_owners_own(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    headers = {"Idempotency-Key": "once"}
    ids = []
    for secret in (token(gateway, "ada"), token(gateway, "bob")):
        for _ in range(2):
            data = form(modules["primes"], b"0:10")
            code, body = await call(
                gateway, "POST", "/jobs", data=data, headers=headers, token=secret
            )
            assert code == 202
            ids.append(body["job_id"])
    assert ids[0] == ids[1] != ids[2] == ids[3]


async def test_an_owner_has_at_most_so_many_unfinished_jobs(swarm: Swarm, modules: Modules) -> None:
    port = free_port()
    yaml = f"gateway: {{jobs_per_owner: 2}}\napi: {{port: {port}}}\n"
    gateway = await swarm.start("gateway", yaml, port)
    ada, bob = token(gateway, "ada"), token(gateway, "bob")
    for _ in range(2):
        assert (await submit(gateway, modules["primes"], b"0:10", token=ada))[0] == 202
    code, body = await submit(gateway, modules["primes"], b"0:10", token=ada)
    assert (code, body["code"]) == (429, "too_many_jobs_of_owner")
    assert (await submit(gateway, modules["primes"], b"0:10", token=bob))[0] == 202


async def test_an_owner_may_send_so_many_requests_and_bytes(swarm: Swarm, modules: Modules) -> None:
    port = free_port()
    yaml = f"gateway:\napi: {{port: {port}, requests_per_owner: 5, upload_per_owner: 20KiB}}\n"
    gateway = await swarm.start("gateway", yaml, port)
    ada, bob = token(gateway, "ada"), token(gateway, "bob")
    codes = [(await call(gateway, "GET", "/jobs", token=ada))[0] for _ in range(8)]
    # A little comes back while they are sent, which lets one more pass.
    assert codes in ([200] * 5 + [429] * 3, [200] * 6 + [429] * 2)
    code, body = await call(gateway, "GET", "/jobs", token=ada)
    assert (code, body["code"]) == (429, "quota")
    assert "api: requests_per_owner" in body["message"]
    code, body = await submit(gateway, modules["primes"], bytes(30_000), token=bob)
    assert (code, body["code"]) == (429, "quota")
    assert "api: upload_per_owner" in body["message"]
    gateway.clock.monotonic_offset_s += 3600
    assert (await call(gateway, "GET", "/jobs", token=ada))[0] == 200
    assert (await submit(gateway, modules["primes"], b"0:10", token=bob))[0] == 202


async def test_events_of_others_jobs_are_not_heard(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    ada, bob = token(gateway, "ada"), token(gateway, "bob")

    async def until_done(client: Live, job_id: str) -> set[str]:
        """Return the jobs that events were of until this one's last."""
        heard = set()
        while True:
            event = (await client.receive()).get("event", {})
            of = event.get("data", {}).get("job_id")
            heard.add(of)
            if event.get("event_type") == "job_completed" and of == job_id:
                return heard - {None}

    async with live(gateway, ada) as hers, live(gateway, bob) as his, live(gateway) as all_of_them:
        for client in (hers, his, all_of_them):
            await client.command("subscribe_events")
        _, first = await submit(gateway, modules["primes"], b"0:10", token=ada)
        await finished(gateway, first["job_id"])
        _, second = await submit(gateway, modules["primes"], b"0:10", token=bob)
        await finished(gateway, second["job_id"])
        assert await until_done(hers, first["job_id"]) == {first["job_id"]}
        assert await until_done(his, second["job_id"]) == {second["job_id"]}
        heard = await until_done(all_of_them, second["job_id"])
        assert heard == {first["job_id"], second["job_id"]}
    # What happened before is filtered, too.
    async with live(gateway, bob) as his:
        await his.command("subscribe_events", since=0)
        assert await until_done(his, second["job_id"]) == {second["job_id"]}


async def test_who_would_miss_events_of_their_own_is_disconnected(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `seq`s of their own they could not tell; they resume with `since`."""
    gateway = await swarm.gateway()
    ada = token(gateway, "ada")

    async def unknown(_job_ids: object) -> dict[str, str]:
        raise StoreUnavailableError("the store can't be reached")

    async with live(gateway, ada) as hers, live(gateway) as all_of_them:
        for client in (hers, all_of_them):
            await client.command("subscribe_events")
        with monkeypatch.context() as patched:
            patched.setattr(gateway.hub.endpoints, "job_facts", lambda _job_id: None)
            patched.setattr(gateway.hub.endpoints, "find_job_facts", unknown)
            code, body = await submit(gateway, modules["primes"], b"0:10", token=ada)
            assert code == 202
            message = await hers.socket.receive(timeout=90)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert (await all_of_them.receive())["event"]["data"]["job_id"] == body["job_id"]
    async with live(gateway, ada) as hers:
        await hers.command("subscribe_events", since=0)
        assert (await hers.receive())["event"]["data"]["job_id"] == body["job_id"]


@pytest.mark.parametrize("way", ["revoked", "expired"])
async def test_a_token_that_is_over_closes_its_websocket(swarm: Swarm, way: str) -> None:
    gateway = await swarm.gateway()
    secret = token(gateway, "ada", expires_at=time.time() + 3600)
    async with live(gateway, secret) as client:
        assert (await client.command("ping"))["type"] == "pong"
        if way == "revoked":
            (found,) = [each for each in tokens(gateway).all() if each.name == "ada"]
            tokens(gateway).revoke(found.id)
        else:
            gateway.clock.offset_s += 3601
        message = await client.socket.receive(timeout=90)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert "revoked or has expired" in str(message.extra)
    assert (await call(gateway, "GET", "/jobs", token=secret))[0] == 401


def test_a_name_that_is_no_short_text_is_refused(tmp_path: Any) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    for name in ("", "x" * 65, "a\x1b[2J", "a\nb", "\ud800"):
        with pytest.raises(HubError, match="printable characters"):
            file.create(name, "read", 0.0)
        with pytest.raises(HubError, match="printable characters"):
            file.create("fine", "read", 0.0, owner=name or "\0")


async def test_failed_logins_are_slowed_logged_and_banned_by_address(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)

    from swarm_hub.cli.swarm import free_port

    monkeypatch.setattr(logins, "_pause", sleep)
    port = free_port()
    gateway = await swarm.start(
        "gateway",
        f"gateway:\napi: {{port: {port}, login_attempts: 3, trusted_proxies: [127.0.0.1/32]}}\n",
        port,
    )
    stranger, friend = {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "203.0.113.7"}
    for _ in range(3):
        code, _ = await call(gateway, "GET", "/jobs", token="swh_wrong", headers=stranger)
        assert code == 401
    assert slept == sorted(slept)
    assert len(slept) == 3
    code, body = await call(gateway, "GET", "/jobs", headers=stranger)
    assert (code, body["code"]) == (403, "banned")
    assert (await call(gateway, "GET", "/jobs", headers=friend))[0] == 200
    assert (await call(gateway, "GET", "/jobs"))[0] == 200
    assert any("Failed login from 203.0.113.9 (1)" in line for line in caplog.messages)
    gateway.clock.offset_s += 3601
    assert (await call(gateway, "GET", "/jobs", headers=stranger))[0] in (200, 403)
    # This device itself is slowed down, but not banned.
    for _ in range(10):
        assert (await call(gateway, "GET", "/jobs", token="swh_wrong"))[0] == 401
    assert (await call(gateway, "GET", "/jobs"))[0] == 200


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway()
    headers = {"X-Forwarded-For": "203.0.113.9"}
    await call(gateway, "GET", "/jobs", token="swh_wrong", headers=headers)
    failed = [line for line in caplog.messages if "Failed login from" in line]
    assert len(failed) == 1
    assert "127.0.0.1" in failed[0]
    assert "203.0.113.9" not in failed[0]


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("evil.example", 403), ("localhost", 200), ("127.0.0.1", 200), ("[::1]:80", 200),
        ("192.168.1.5:3000", 200), ("hub.home", 200), ("HUB.home:443", 200), ("", 403),
        ("127.0.0.1.evil.example", 403), ("x\x1b[2J", 403),
    ],
)  # fmt: skip
async def test_a_host_that_is_not_this_hub_is_refused(swarm: Swarm, host: str, code: int) -> None:
    port = free_port()
    gateway = await swarm.start(
        "gateway", f"gateway:\napi: {{port: {port}, allowed_hosts: [hub.home]}}\n", port
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /api/v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {gateway.token}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    answer = await reader.read()
    writer.close()
    # A header with a control character is no HTTP at all.
    expected = (code, 400) if "\x1b" in host else (code,)
    if answer or "\x1b" not in host:
        assert int(answer.split()[1]) in expected, answer
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
