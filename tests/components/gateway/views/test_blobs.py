"""Blobs that are uploaded before the jobs that name them."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from swarm_hub.components.gateway.views import named_blobs
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.storage.blobs.store import PARKED_DIR, SPOOL_DIR
from swarm_hub.storage.queries import uploads
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.strict_cbor import to_cbor
from swarm_hub.util.strict_json import dump_json
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, form, submit

Modules = dict[str, bytes]
BODY = b"".join(b"line %d\n" % number for number in range(30_000))
SHA = sha256_hex(BODY)


def token(hub: RunningHub, name: str, owner: str, scope: str = "submit") -> str:
    tokens = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
    return tokens.create(name, scope, time.time(), owner=owner)[1]


async def put(hub: RunningHub, body: bytes, sha: str = "", **options: Any) -> tuple[int, Any]:
    return await call(hub, "PUT", f"/blobs/{sha or sha256_hex(body)}", data=body, **options)


async def piece(hub: RunningHub, start: int, end: int, **options: Any) -> tuple[int, Any]:
    headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(BODY)}"}
    return await put(hub, BODY[start:end], SHA, headers=headers, **options)


async def head(hub: RunningHub, sha: str = SHA) -> tuple[int, str | None, str | None]:
    headers = {"Authorization": f"Bearer {hub.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.head(f"{hub.url}/api/v1/blobs/{sha}") as response,
    ):
        told = response.headers
        return response.status, told.get("Upload-Offset"), told.get("Upload-Complete")


async def on_named(hub: RunningHub, module: bytes, **options: Any) -> tuple[int, Any]:
    made = form(module, None, {"reduce": "concat"})
    made.add_field("dataset_sha", SHA, filename="lines.txt")
    return await call(hub, "POST", "/jobs", data=made, **options)


def left(hub: RunningHub, folder: str) -> list[Path]:
    return list((hub.folder / "blobs" / folder).glob("*"))


async def test_a_blob_is_uploaded_once_and_named_by_jobs_of_each_kind(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    assert await head(gateway) == (404, None, None)
    code, answer = await put(gateway, BODY)
    assert (code, answer["offset"], answer["complete"]) == (201, len(BODY), True)
    assert await head(gateway) == (200, str(len(BODY)), "?1")
    assert (await put(gateway, BODY))[0] == 200
    module_sha = sha256_hex(modules["echo"])
    assert (await put(gateway, modules["echo"]))[0] == 201
    spec = {"reduce": "concat"}
    as_form = form(None, None, spec)
    as_form.add_field("module_sha", module_sha)
    as_form.add_field("dataset_sha", f"{SHA}\n", filename="lines.txt")
    named = {"module_sha": module_sha, "dataset_sha": [["lines.txt", SHA]], "spec": spec}
    for body, kind in (
        (as_form, {}),
        (to_cbor(named), {"Content-Type": "application/cbor"}),
        (dump_json(named), {"Content-Type": "application/json"}),
        (dump_json({**named, "dataset_sha": SHA}), {"Content-Type": "application/json"}),
    ):
        code, answer = await call(gateway, "POST", "/jobs", data=body, headers=kind)
        assert code == 202, answer
        status = await finished(gateway, answer["job_id"])
        assert (status["state"], status["dataset_sha"]) == ("completed", SHA)
        assert (await call(gateway, "GET", f"/jobs/{answer['job_id']}/result"))[1] == BODY
    assert left(gateway, SPOOL_DIR) == left(gateway, PARKED_DIR) == []


async def test_pieces_go_on_where_the_last_one_ended_also_after_a_restart(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    assert (await piece(gateway, 0, 100_000))[0] == 202
    assert await head(gateway) == (200, "100000", "?0")
    for start, code in ((0, 202), (50_000, 409), (100_001, 409)):
        assert (await piece(gateway, start, start + 10))[0] == code
        # Less than what is here replaces nothing.
        assert await head(gateway) == (200, "100000", "?0")
    assert (await piece(gateway, 100_000, 200_000))[0] == 202
    assert (await on_named(gateway, modules["echo"]))[0] == 404
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    code, answer = await piece(gateway, 200_000, len(BODY))
    assert (code, answer["complete"]) == (201, True)
    assert (await on_named(gateway, modules["echo"]))[0] == 202
    assert left(gateway, SPOOL_DIR) == left(gateway, PARKED_DIR) == []


async def test_what_came_before_a_connection_broke_is_kept(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    writer.write(
        f"PUT /api/v1/blobs/{SHA} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n"
        f"Authorization: Bearer {gateway.token}\r\n\r\n".encode()
        + BODY[:123_456]
    )

    async def here() -> str | None:
        return (await head(gateway))[1]

    await until(here, lambda offset: offset == "123456")
    # The first request may still go on.
    code, answer = await piece(gateway, 123_456, len(BODY))
    assert (code, answer["code"]) == (503, "upload_in_progress")
    writer.close()
    await writer.wait_closed()

    async def parked() -> int:
        return len(left(gateway, PARKED_DIR))

    await until(parked, lambda count: count == 1)
    assert (await piece(gateway, 123_456, len(BODY)))[0] == 201
    del reader


async def test_two_clients_upload_the_same_blob_at_the_same_time(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    both = await asyncio.gather(*(put(gateway, BODY) for _ in range(4)))
    assert {code for code, _ in both} <= {200, 201}
    assert left(gateway, SPOOL_DIR) == left(gateway, PARKED_DIR) == []


@pytest.mark.parametrize(
    ("headers", "sha", "code", "word"),
    [
        ({}, "0" * 64, 422, "wrong_sha256"),
        ({}, "xyz", 400, "invalid_sha256"),
        ({"Content-Range": "bytes 0-9/20"}, SHA, 400, "bad_range"),
        ({"Content-Range": f"bytes 9-0/{len(BODY)}"}, SHA, 400, "bad_range"),
        ({"Content-Range": "bytes */20"}, SHA, 400, "bad_range"),
        ({"Content-Range": f"bytes 0-{len(BODY) - 1}/{2**40}"}, SHA, 413, "blob_too_large"),
    ],
)
async def test_what_can_not_be_a_blob_is_refused_and_not_kept(
    swarm: Swarm, headers: dict[str, str], sha: str, code: int, word: str
) -> None:
    gateway = await swarm.gateway()
    answer = await put(gateway, BODY, sha, headers=headers)
    assert (answer[0], answer[1]["code"]) == (code, word), answer
    assert left(gateway, SPOOL_DIR) == left(gateway, PARKED_DIR) == []
    assert (await call(gateway, "GET", f"/blobs/{SHA}"))[0] == 404


async def test_a_hash_gives_nobody_what_others_have(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    ann, bob = token(gateway, "a", "ann"), token(gateway, "b", "bob")
    phone = token(gateway, "phone", "ann")
    module_sha = sha256_hex(modules["echo"])
    assert (await put(gateway, BODY, token=ann))[0] == 201
    code, answer = await on_named(gateway, modules["echo"], token=phone)
    assert code == 202
    result_sha = (await finished(gateway, answer["job_id"]))["result_sha"]
    headers = {"Content-Type": "application/cbor"}

    async def name(who: str, dataset: str, module: str) -> tuple[int, str | None]:
        said = to_cbor({"module_sha": module, "dataset_sha": dataset, "spec": {}})
        code, answer = await call(gateway, "POST", "/jobs", data=said, headers=headers, token=who)
        return code, answer.get("code")

    # Also what her jobs are of, and what they gave.
    assert await name(ann, result_sha, module_sha) == (202, None)
    assert await name(bob, SHA, module_sha) == (404, "unknown_module")
    assert (await submit(gateway, modules["echo"], b"x\n", token=bob))[0] == 202
    for other in (SHA, result_sha, "0" * 64):
        assert await name(bob, other, module_sha) == (404, "unknown_blob")
    assert (await call(gateway, "GET", f"/blobs/{SHA}", token=bob))[0] == 404
    assert (await call(gateway, "DELETE", f"/blobs/{SHA}", token=bob))[0] == 404
    # Who sends all the bytes has them.
    assert (await put(gateway, BODY, token=bob))[0] == 201
    assert await name(bob, SHA, module_sha) == (202, None)


async def test_the_oldest_uploads_of_an_owner_make_room(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra="", admission="open, uploads: 300KiB")
    bodies = [bytes([number]) * 100_000 for number in range(4)]
    for body in bodies:
        assert (await put(gateway, body))[0] == 201
        gateway.clock.offset_s += 1
    there = [(await head(gateway, sha256_hex(body)))[0] for body in bodies]
    assert there == [404, 200, 200, 200]
    code, answer = await put(gateway, bytes(400_000))
    assert (code, answer["code"]) == (413, "blob_too_large")


async def test_an_upload_stays_its_time_and_longer_if_it_is_used(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(admission="open, keep_uploads: 1h")
    store = gateway.hub.store
    assert (await put(gateway, BODY))[0] == 201
    (first,) = await store.read(uploads.of_owner, "t")
    gateway.clock.offset_s += 2000
    assert (await on_named(gateway, modules["echo"]))[0] == 202

    async def expires_at() -> float:
        (found,) = await store.read(uploads.of_owner, "t")
        return found.expires_at

    assert await until(expires_at, lambda then: then > first.expires_at + 1000)
    code, _ = await call(gateway, "DELETE", f"/blobs/{SHA}")
    assert code == 200
    assert (await head(gateway))[0] == 404
    # The job has it still.
    assert await store.blobs.get(SHA) == BODY
    assert (await on_named(gateway, modules["echo"]))[0] == 202


async def test_an_interrupted_upload_goes_after_a_day(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    assert (await piece(gateway, 0, 1000))[0] == 202
    (path,) = left(gateway, PARKED_DIR)
    assert await gateway.hub.store.blobs.parked.tidy() == 0
    os.utime(path, (0, 0))
    assert await gateway.hub.store.blobs.parked.tidy() == 1
    assert await head(gateway) == (404, None, None)


async def test_too_many_named_files_are_refused(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_blobs, "_NAMED_MAX", 2)
    gateway = await swarm.gateway()
    assert (await put(gateway, BODY))[0] == 201
    assert (await put(gateway, modules["echo"]))[0] == 201
    for count, expected in ((2, 202), (3, 413)):
        said = {"module_sha": sha256_hex(modules["echo"]), "dataset_sha": [["x", SHA]] * count}
        headers = {"Content-Type": "application/json"}
        code, _ = await call(gateway, "POST", "/jobs", data=dump_json(said), headers=headers)
        assert code == expected
