"""Changing, ending and repeating jobs that were taken in."""

import sqlite3
import time
from contextlib import closing
from typing import Any

from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit, submit_files

Modules = dict[str, bytes]


async def queued(hub: RunningHub, modules: Modules, secret: str = "", **spec: Any) -> str:
    """Submit a job that a worker would do at once; returns its id."""
    spec = {"reduce": "sum", **spec}
    code, body = await submit(hub, modules["primes"], b"0:100", spec, token=secret)
    assert code == 202, body
    return str(body["job_id"])


async def events(hub: RunningHub, job_id: str) -> list[dict[str, Any]]:
    _, story = await call(hub, "GET", f"/jobs/{job_id}/story")
    return list(story["events"])


def token(hub: RunningHub, owner: str, scope: str = "submit") -> str:
    return TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE).create(owner, scope, time.time())[1]


async def test_a_changed_priority_counts_at_once_and_after_a_restart(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    ids = [await queued(gateway, modules, labels={"a": "b"}) for _ in range(3)]
    change = {"priority": 7, "labels": {"team": "x"}, "deadline_s": 3600}
    code, status = await call(gateway, "PATCH", f"/jobs/{ids[2]}", json=change)
    assert code == 200
    assert (status["state"], status["labels"]) == ("queued", {"team": "x"})
    assert (status["spec"]["priority"], status["spec"]["deadline_s"]) == (7, 3600)
    told = (await events(gateway, ids[2]))[-1]
    assert (told["event_type"], told["data"]) == ("job_changed", {"job_id": ids[2], **change})
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert (await call(gateway, "PATCH", f"/jobs/{ids[1]}", json={"priority": 3}))[0] == 200
    assert (await call(gateway, "GET", f"/jobs/{ids[2]}"))[1]["spec"]["priority"] == 7
    await swarm.worker("worker", extra="worker: {slots: 1, charging_only: false, min_battery: 0}\n")
    for job_id in ids:
        assert (await finished(gateway, job_id))["state"] == "completed"
    began = {
        job_id: next(
            event["seq"]
            for event in await events(gateway, job_id)
            if event["event_type"] == "shard_assigned"
        )
        for job_id in ids
    }
    assert sorted(ids, key=began.__getitem__) == ids[::-1]
    code, refused = await call(gateway, "PATCH", f"/jobs/{ids[0]}", json={"priority": 1})
    assert (code, refused["code"]) == (409, "job_ended")
    assert "completed" in refused["message"]


async def test_a_job_fails_at_its_new_deadline(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    soon, never = await queued(gateway, modules), await queued(gateway, modules, deadline_s=3600)
    for job_id, deadline_s in ((soon, 3600), (never, None)):
        change = {"deadline_s": deadline_s}
        code, status = await call(gateway, "PATCH", f"/jobs/{job_id}", json=change)
        assert (code, status["spec"]["deadline_s"]) == (200, deadline_s)
    gateway.clock.monotonic_offset_s += 3601
    # Whatever happens next, the gateway looks at its clock.
    await queued(gateway, modules)
    status = await finished(gateway, soon)
    assert status["state"] == "failed"
    assert "deadline" in status["failures"][0]
    assert (await call(gateway, "GET", f"/jobs/{never}"))[1]["state"] == "queued"


async def test_what_can_not_be_changed_is_refused(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    ada, bob, eve = token(gateway, "ada"), token(gateway, "bob"), token(gateway, "eve", "read")
    job_id = await queued(gateway, modules, ada)
    gateway.clock.offset_s += 100
    for body, code, words in (
        ({}, 422, "say what to change"),
        ({"priority": 101}, 422, "priority"),
        ({"shard_size": 5}, 422, "shard_size: unknown key"),
        ({"deadline_s": 50}, 422, "over already"),
    ):
        told, answer = await call(gateway, "PATCH", f"/jobs/{job_id}", json=body)
        assert (told, words in answer["message"]) == (code, True), answer
    for secret, code in ((bob, 404), (eve, 403), (ada, 200)):
        answer = await call(gateway, "PATCH", f"/jobs/{job_id}", json={"priority": 1}, token=secret)
        assert answer[0] == code
    assert (await call(gateway, "PATCH", "/jobs/none", json={"priority": 1}))[0] == 404


async def test_many_jobs_are_cancelled_at_once(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    ada, bob = token(gateway, "ada"), token(gateway, "bob")
    mine = [await queued(gateway, modules, ada, labels={"n": str(n % 2)}) for n in range(4)]
    his = await queued(gateway, modules, bob)
    with closing(sqlite3.connect(gateway.folder / "swarm_hub.db")) as database:
        database.execute("INSERT INTO tombstones (job_id, pruned_at) VALUES ('gone', 1)")
        database.commit()
    body = {"ids": [mine[0], his, "none", "gone", mine[0]]}
    code, answer = await call(gateway, "POST", "/jobs/cancel", json=body, token=ada)
    assert (code, answer["cursor"]) == (200, None)
    assert [(each["job_id"], each["state"], each["code"]) for each in answer["jobs"]] == [
        (mine[0], "cancelled", None),
        (his, None, "not_found"),
        ("none", None, "not_found"),
        ("gone", None, "pruned"),
    ]
    wanted = {"filter": {"label.n": "1", "state": "queued"}}
    _, answer = await call(gateway, "POST", "/jobs/cancel", json=wanted, token=ada)
    assert {each["job_id"]: each["cancelled"] for each in answer["jobs"]} == {
        mine[1]: True, mine[3]: True,
    }  # fmt: skip
    _, answer = await call(gateway, "POST", "/jobs/cancel", json={"filter": {"owner": "bob"}})
    assert [each["job_id"] for each in answer["jobs"]] == [his]
    _, left = await call(gateway, "GET", "/jobs?state=queued,running")
    assert [job["job_id"] for job in left["jobs"]] == [mine[2]]
    for refused in (
        {}, {"ids": []}, {"filter": {}}, {"ids": ["a"], "filter": {"owner": "x"}},
        {"filter": {"state": "completed"}}, {"ids": ["a"] * 501}, {"filter": {"since": None}},
    ):  # fmt: skip
        assert (await call(gateway, "POST", "/jobs/cancel", json=refused))[0] == 422


async def test_a_job_is_submitted_once_more(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    ada, bob = token(gateway, "ada"), token(gateway, "bob")
    first = await queued(gateway, modules, ada, env={"A": "b"}, name="nightly")
    ended = await finished(gateway, first)
    path, headers = f"/jobs/{first}/resubmit", {"Idempotency-Key": "again"}
    changes = {"spec": {"labels": {"run": "2"}, "limits": {"output": "1MiB"}}}
    answers = [
        await call(gateway, "POST", path, json=changes, headers=headers, token=ada)
        for _ in range(2)
    ]
    assert [code for code, _ in answers] == [202, 202]
    (second,) = {body["job_id"] for _, body in answers}
    assert second != first
    again = await finished(gateway, second)
    assert (again["result"], again["owner"], again["name"]) == (ended["result"], "ada", "nightly")
    assert (again["labels"], again["spec"]["limits"]["output"]) == ({"run": "2"}, 1024 * 1024)
    assert again["spec"]["limits"]["wall_time"] == ended["spec"]["limits"]["wall_time"]
    assert again["spec"]["env"] == [["A", "b"]]
    code, conflict = await call(gateway, "POST", path, headers=headers, token=ada)
    assert (code, conflict["code"]) == (409, "idempotency_conflict")
    assert (await call(gateway, "POST", path, token=bob))[0] == 404
    # An administrator's copy is its owner's too, with the same environment.
    code, body = await call(gateway, "POST", path)
    assert (await finished(gateway, body["job_id"]))["owner"] == "ada"
    wrong = {"spec": {"abi": "wasi"}}
    assert (await call(gateway, "POST", path, json=wrong, token=ada))[0] == 422
    with closing(sqlite3.connect(gateway.folder / "swarm_hub.db")) as database:
        database.execute("DELETE FROM blobs WHERE sha = ?", (ended["dataset_sha"],))
        database.commit()
    code, gone = await call(gateway, "POST", path, token=ada)
    assert (code, gone["code"]) == (410, "pruned")


async def test_the_items_that_failed_are_submitted_once_more(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    files = {name: name.encode() for name in ("caX.txt", "dog.txt", "foX.txt", "yak.txt")}
    spec = {"split": "files", "on_error": "skip"}
    first = await submit_files(gateway, modules["cat_but_x"], files, spec)
    assert (await finished(gateway, first))["failed_items"] == 2
    path, headers = f"/jobs/{first}/resubmit", {"Idempotency-Key": "failed"}
    answers = [
        await call(gateway, "POST", path, json={"items": "failed"}, headers=headers)
        for _ in range(2)
    ]
    assert [code for code, _ in answers] == [202, 202]
    (second,) = {body["job_id"] for _, body in answers}
    again = await finished(gateway, second)
    assert (again["state"], again["progress"]["items"]) == ("failed", 2), again
    _, told = await call(gateway, "GET", f"/jobs/{second}/failures")
    assert [each["place"] for each in told["failures"]] == ["caX.txt", "foX.txt"]
    chosen = {"items": [{"first_item": 3}, {"first_item": 1}], "spec": {"name": "two"}}
    code, body = await call(gateway, "POST", path, json=chosen)
    assert (await finished(gateway, body["job_id"]))["name"] == "two"
    result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert result == (200, b"dog.txtyak.txt")
    code, nothing = await call(
        gateway, "POST", f"/jobs/{body['job_id']}/resubmit", json={"items": "failed"}
    )
    assert (code, nothing["code"]) == (409, "nothing_failed")
    for wrong in ("all", [], [{"first_item": -1}], [{"first_item": 3, "n_items": 2}], [3]):
        assert (await call(gateway, "POST", path, json={"items": wrong}))[0] == 422


async def test_of_a_range_the_numbers_that_failed_are_submitted_once_more(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    first = await queued(gateway, modules)
    await finished(gateway, first)
    # The primes among 2, 3, 11, 12 and 13.
    runs = [{"first_item": 11, "n_items": 3}, {"first_item": 2, "n_items": 2}]
    _, body = await call(gateway, "POST", f"/jobs/{first}/resubmit", json={"items": runs})
    status = await finished(gateway, body["job_id"])
    assert (status["result"], status["progress"]["items"]) == (4, 5)
