"""Automations of a hub: what triggers them, what they do, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from swarm_hub.client import SwarmClient
from swarm_hub.components.automation import engine, outbox, webhook
from swarm_hub.exceptions import StoreBusyError, StoreFullError
from swarm_hub.storage.queries import automations as queries
from tests.components.automation.asking import CHAIN, ended, manual, notify, section, traces
from tests.components.automation.receiver import receiver
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call


async def test_a_job_is_chained_to_another_with_its_result(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    swarm.keys("gateway")
    hub = await swarm.gateway(extra=section(CHAIN))
    (hub.folder / "cat.wasm").write_bytes(modules["cat"])
    await swarm.worker("worker")
    async with SwarmClient(hub.url, hub.token) as client:
        other = await client.submit(modules["cat"], b"no\n", reduce="concat")
        await client.wait(other)
        first = await client.submit(
            modules["cat"], b"a\nb\n", reduce="concat", labels={"stage": "map"}, name="letters"
        )
        await client.wait(first)
        (trace,) = await ended(hub, "reduce")
        assert trace["state"] == "done", trace
        assert trace["trigger"]["job_id"] == first
        second = trace["steps"][0]["said"].removeprefix("submitted job ")
        status = await client.wait(second)
        assert (status["state"], status["name"]) == ("completed", "reduce of letters")
        assert status["labels"] == {
            "stage": "reduce", "automation": "reduce", "automation_depth": "1",
        }  # fmt: skip
        assert status["owner"] == (await client.status(first))["owner"]
        assert await client.result(second) == b"a\nb\n"


async def test_a_webhook_is_tried_again_with_its_key_until_it_is_taken(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_FIRST_PAUSE_S", 0.05)
    async with receiver() as server:
        refusals = [503, 429]
        server.answer = lambda: web.Response(status=refusals.pop() if refusals else 204)
        hub = await swarm.gateway(
            extra=section(
                {"allow": {"hosts": [f"127.0.0.1:{server.port}"]}},
                {
                    "alias": "Tell",
                    "trigger": {"event": "node_drained"},
                    "action": {
                        "webhook": {
                            "url": f"http://127.0.0.1:{server.port}/a?id={{{{ trigger.id }}}}",
                            "body": '{"kind": {{ trigger.kind | tojson }}}',
                        }
                    },
                },
            )
        )
        made = await manual(hub, "tell")
        assert (made["state"], made["trigger"]["kind"]) == ("open", "manual")
        (trace,) = await ended(hub, "tell")
    assert trace["state"] == "done"
    assert trace["steps"] == [
        {"kind": "webhook", "state": "done", "tries": 2, "said": "127.0.0.1 answered 204"}
    ]
    key = f"{made['trigger_id']}:0"
    path = f"/a?id={made['trigger_id']}"
    assert server.got == [(key, path, '{"kind": "manual"}')] * 3


async def listed(hub: RunningHub, automation: str = "tell") -> dict[str, Any]:
    status, answer = await call(hub, "GET", "/automations")
    assert status == 200
    found: dict[str, Any] = next(each for each in answer["automations"] if each["id"] == automation)
    return found


async def drain(hub: RunningHub, client: SwarmClient, action: str = "drain") -> str:
    node_id = str((await client.nodes())[0]["node_id"])
    await client.node_action(node_id, action)
    return node_id


async def test_a_notice_is_an_event_and_is_shown(swarm: Swarm) -> None:
    hub = await swarm.gateway(extra=section(notify({"event": "node_drained"})))
    await swarm.worker("kitchen")
    async with SwarmClient(hub.url, hub.token) as client:
        await until(client.nodes, bool)
        await drain(hub, client)
        (trace,) = await ended(hub, "tell")
        assert trace["steps"][0]["said"] == "event"
        assert trace["trigger"]["event_type"] == "node_drained"
        status, answer = await call(hub, "GET", "/automations")
        assert [each["message"] for each in answer["notices"]] == ["event"]
        assert answer["acting"] is True
        assert answer["automations"][0]["last_run"]["trigger_id"] == trace["trigger_id"]
        events = [event async for event in aiter_until(client, "automation_notified")]
        assert events[-1]["data"] == {
            "automation": "tell", "trigger_id": trace["trigger_id"], "message": "event",
            "depth": 1,
        }  # fmt: skip
        assert status == 200


async def aiter_until(client: SwarmClient, event_type: str) -> Any:
    events = client.events(since=0)
    async for event in events:
        yield event
        if event["event_type"] == event_type:
            break
    await events.aclose()  # type: ignore[attr-defined]


async def test_nodes_are_drained_by_name_and_jobs_cancelled(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    hub = await swarm.gateway(
        extra=section(
            {
                "alias": "Rest",
                "trigger": {"event": "job_running", "labels": {"kind": "long"}},
                "action": [{"drain": {"node": "kitchen", "reason": "hot"}}, {"cancel": None}],
            },
            {
                "alias": "Go on",
                "trigger": {"event": "node_drained", "where": {"reason": "hot"}},
                "action": [{"undrain": None}, {"pause": None}, {"notify": "unreached"}],
            },
        )
    )
    await swarm.worker("kitchen")
    async with SwarmClient(hub.url, hub.token) as client:
        await until(client.nodes, bool)
        job = await client.submit(modules["spin"], range(100_000), labels={"kind": "long"})
        (trace,) = await ended(hub, "rest")
        assert [step["said"] for step in trace["steps"]] == [
            "kitchen is drained", f"job {job} is cancelled",
        ]  # fmt: skip
        (trace,) = await ended(hub, "go_on")
        assert trace["state"] == "failed"
        assert [step["state"] for step in trace["steps"]] == ["done", "failed", "open"]
        assert "has no command 'pause'" in trace["steps"][1]["said"]
        assert (await client.nodes())[0]["state"] == "up"


async def test_a_command_gets_its_input_and_tells_its_first_words(
    swarm: Swarm, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    hub = await swarm.gateway(
        extra=section(
            {"allow": {"commands": {"note": ["/usr/bin/tee", str(told)], "no": ["/bin/false"]}}},
            {
                "alias": "Note",
                "trigger": {"cron": "0 0 1 1 *"},
                "action": [
                    {"command": {"name": "note", "input": "{{ trigger.id }}; rm -rf /"}},
                    {"command": "no"},
                ],
            },
        )
    )
    made = await manual(hub, "note")
    (trace,) = await ended(hub, "note")
    assert told.read_text() == f"{made['trigger_id']}; rm -rf /"
    assert [step["said"] for step in trace["steps"]] == [
        f"note is done: {made['trigger_id']}; rm -rf /", "false ended with 1",
    ]  # fmt: skip


async def test_values_times_and_absences_trigger_once(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MEASURE_EVERY_S", 0.1)
    hub = await swarm.gateway(
        extra=section(
            notify({"threshold": "nodes_up", "below": 1, "for": "5m"}, "Few"),
            notify({"absence": "job_completed", "for": "1h"}, "Idle"),
            notify({"absence": "job_completed", "for": "3h"}, "Later"),
            notify({"cron": "*/30 * * * *"}, "Half hours"),
            notify(
                {"cron": "*/30 * * * *"}, "Never", condition={"threshold": "nodes_up", "above": 5}
            ),
        )
    )
    await until(lambda: remembered(hub), lambda known: len(known) == 5)

    async def few() -> list[dict[str, Any]]:
        # Its minutes count from when the value was first measured, which nothing tells.
        hub.clock.monotonic_offset_s += 600
        return await traces(hub, "few")

    await until(few, bool)
    hub.clock.offset_s += 2 * 3600
    for automation in ("few", "idle", "half_hours"):
        await ended(hub, automation)
    hub.clock.offset_s += 1.5 * 3600
    hub.clock.monotonic_offset_s += 600
    await ended(hub, "later")
    assert len(await ended(hub, "half_hours", 2)) == 2
    for automation in ("few", "idle", "later"):
        assert len(await traces(hub, automation)) == 1
    assert await traces(hub, "never") == []


async def remembered(hub: RunningHub) -> Any:
    return await hub.hub.store.read(queries.known)


async def test_what_triggers_itself_is_bounded_by_its_depth(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    again = {
        "alias": "Again",
        "trigger": {"event": "job_completed"},
        "max_depth": 3,
        "action": {"submit": {"module": "cat.wasm", "dataset": "result", "reduce": "concat"}},
    }
    swarm.keys("gateway")
    hub = await swarm.gateway(extra=section(again))
    (hub.folder / "cat.wasm").write_bytes(modules["cat"])
    await swarm.worker("worker")
    async with SwarmClient(hub.url, hub.token) as client:
        await client.submit(modules["cat"], b"a\n", reduce="concat")
        found = await ended(hub, "again", 4)
        assert [each["state"] for each in found] == ["refused", "done", "done", "done"]
        assert found[0]["said"] == "3 automations in a row have led to this one (max_depth)"
        assert len(await client.jobs()) == 4


async def test_a_rate_is_kept_and_the_first_beyond_it_is_told(swarm: Swarm) -> None:
    told = notify({"event": "automation_notified"}, "Echo", max_per_hour=3, max_depth=100)
    hub = await swarm.gateway(extra=section(told))
    await manual(hub, "echo")
    found = await ended(hub, "echo", 5)
    assert [each["state"] for each in found] == ["refused", "done", "done", "done", "done"]
    assert found[0]["said"] == "more than 3 in an hour (max_per_hour)"
    hub.clock.offset_s += 3601
    await manual(hub, "echo")
    assert len(await ended(hub, "echo", 10)) == 10


async def test_one_that_is_disabled_is_not_triggered_but_by_hand(swarm: Swarm) -> None:
    hub = await swarm.gateway(
        extra=section(
            notify({"event": "node_drained"}), notify({"event": "node_undrained"}, "Other")
        )
    )
    await swarm.worker("kitchen")
    async with SwarmClient(hub.url, hub.token) as client:
        await until(client.nodes, bool)
        status, answer = await call(hub, "POST", "/automations/tell/disable")
        assert (status, answer["enabled"]) == (200, False)
        await drain(hub, client)
        await drain(hub, client, "undrain")
        await ended(hub, "other")
        assert (await listed(hub))["last_run"] is None
        await manual(hub, "tell")
        await ended(hub, "tell")
        await call(hub, "POST", "/automations/tell/enable")
        await drain(hub, client)
        assert [each["trigger"]["kind"] for each in await ended(hub, "tell", 2)] == [
            "event", "manual",
        ]  # fmt: skip


async def test_by_hand_it_is_as_if_an_event_of_a_job_had_triggered(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    swarm.keys("gateway")
    hub = await swarm.gateway(extra=section(CHAIN))
    (hub.folder / "cat.wasm").write_bytes(modules["cat"])
    await swarm.worker("worker")
    async with SwarmClient(hub.url, hub.token) as client:
        job = await client.submit(modules["cat"], b"a\n", reduce="concat", name="n")
        await client.wait(job)
        assert await traces(hub, "reduce") == []
        await manual(hub, "reduce", job_id=job)
        (trace,) = await ended(hub, "reduce")
        assert trace["state"] == "done"
        assert trace["steps"][0]["said"].startswith("submitted job ")
        assert (await client.jobs())[0]["name"] == "reduce of n"
    for path, body, expected in (
        ("reduce/trigger", {"job_id": "01KAXXXXXXXXXXXXXXXXXXXXX9"}, 404),
        ("nope/trigger", {}, 404), ("reduce/trigger", {"jobid": "x"}, 422),
    ):  # fmt: skip
        status, answer = await call(hub, "POST", f"/automations/{path}", json=body)
        assert status == expected, answer


async def test_a_file_that_is_missing_is_told_and_nothing_is_submitted(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    hub = await swarm.gateway(extra=section(CHAIN))
    await swarm.worker("worker")
    async with SwarmClient(hub.url, hub.token) as client:
        await client.submit(modules["cat"], b"a\n", reduce="concat", labels={"stage": "map"})
        (trace,) = await ended(hub, "reduce")
        assert trace["state"] == "failed"
        assert "cat.wasm can't be read: No such file" in trace["steps"][0]["said"]


async def test_a_changed_list_is_taken_over_without_a_restart(swarm: Swarm) -> None:
    first = [notify({"event": "node_drained"}), notify({"event": "node_drained"}, "Gone")]
    hub = await swarm.gateway(extra=section(*first))
    await swarm.worker("kitchen")
    async with SwarmClient(hub.url, hub.token) as client:
        await until(client.nodes, bool)
        await drain(hub, client)
        await ended(hub, "tell")
        await drain(hub, client, "undrain")
        path = hub.folder / "configuration.yaml"
        written = path.read_text()
        assert section(*first) in written
        second = [
            notify({"event": "node_drained"}, "New"), notify({"event": "node_undrained"}),
        ]  # fmt: skip
        path.write_text(written.replace(section(*first), section({"alias": "New"}, *second)))
        status, refused = await call(hub, "POST", "/config/reload")
        assert (status, refused["code"]) == (422, "invalid_configuration")
        assert (await call(hub, "GET", "/automations/new/traces"))[0] == 404
        path.write_text(written.replace(section(*first), section(*second)))
        status, done = await call(hub, "POST", "/config/reload")
        assert status == 200, done
        changed = [each["path"] for each in done["applied"]]
        assert changed == ["automation → 0", "automation → 1"]
        assert not done["needs_restart"]
        assert await traces(hub, "tell")
        await drain(hub, client)
        await ended(hub, "new")
        await drain(hub, client, "undrain")
        assert len(await ended(hub, "tell", 2)) == 2
        assert (await call(hub, "GET", "/automations/gone/traces"))[0] == 404


async def test_events_from_while_it_was_down_are_followed_up(swarm: Swarm) -> None:
    """A gateway without the list goes on where the events were left."""
    extra = section(notify({"event": "node_drained"}))
    hub = await swarm.gateway(extra=extra)
    await swarm.stop(hub)
    # What happens while automations are off is what they have not seen.
    hub = await swarm.gateway()
    await swarm.worker("kitchen")
    async with SwarmClient(hub.url, hub.token) as client:
        await until(client.nodes, bool)
        await drain(hub, client)
        await drain(hub, client, "undrain")
        await drain(hub, client)
    await swarm.stop(hub)
    hub = await swarm.gateway(extra=extra)
    assert len(await ended(hub, "tell", 2)) == 2


async def test_an_action_that_breaks_or_a_template_that_fails_ends_its_run_alone(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> str:
        raise KeyError("nope")

    monkeypatch.setattr(webhook, "call", broken)
    url = "http://127.0.0.1/"
    wrong = {**notify({"event": "node_up"}, "Wrong"), "action": {"notify": "{{ job.id }}"}}
    hub = await swarm.gateway(
        extra=section(
            {"allow": {"hosts": ["127.0.0.1"]}},
            {"alias": "Bad", "trigger": {"event": "node_up"}, "action": {"webhook": url}},
            wrong,
            notify({"event": "node_drained"}),
        )
    )
    await manual(hub, "bad")
    (trace,) = await ended(hub, "bad")
    assert (trace["state"], trace["steps"][0]["said"]) == ("failed", "it broke: KeyError: 'nope'")
    made = await manual(hub, "wrong")
    assert made["state"] == "failed"
    assert made["said"] == "action 0: a template failed: UndefinedError: 'job' is undefined"
    assert (await call(hub, "GET", "/automations"))[1]["notices"] == []
    assert [each["state"] for each in await traces(hub, "wrong")] == ["failed"]
    await manual(hub, "tell")
    assert (await ended(hub, "tell"))[0]["state"] == "done"


async def test_what_the_clock_triggered_waits_for_a_store_that_is_full(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_LOOK_EVERY_S", 0.1)
    hub = await swarm.gateway(extra=section(notify({"absence": "job_completed", "for": "1h"})))
    await until(lambda: remembered(hub), bool)
    change, refused = hub.hub.store.change, []

    async def full(work: Any, *args: Any, **options: Any) -> Any:
        if work is queries.advance and len(refused) < 2:
            refused.append(work)
            raise StoreFullError("no space")
        return await change(work, *args, **options)

    monkeypatch.setattr(hub.hub.store, "change", full)
    hub.clock.offset_s += 3700
    (trace,) = await ended(hub, "tell")
    assert (trace["state"], trace["trigger"]["kind"]) == ("done", "absence")
    assert len(refused) == 2


async def test_a_submission_that_was_not_noted_is_found_by_its_key(
    swarm: Swarm, modules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the job's commit and that of the run."""
    swarm.keys("gateway")
    hub = await swarm.gateway(extra=section(CHAIN))
    (hub.folder / "cat.wasm").write_bytes(modules["cat"])
    await swarm.worker("worker")
    commit, refused = hub.hub.store.commit, []

    def busy(writes: Any, *args: Any, **options: Any) -> Any:
        if any("automation_runs" in str(each.statement) for each in writes) and len(refused) < 2:
            refused.append(writes)
            # What the job was made of is another file by then.
            (hub.folder / "cat.wasm").write_bytes(modules["sum"])
            raise StoreBusyError("busy")
        return commit(writes, *args, **options)

    monkeypatch.setattr(hub.hub.store, "commit", busy)
    async with SwarmClient(hub.url, hub.token) as client:
        await client.submit(modules["cat"], b"a\n", reduce="concat", labels={"stage": "map"})
        (trace,) = await ended(hub, "reduce")
        assert len(refused) == 2
        assert trace["state"] == "done", trace
        assert "was submitted before" in trace["steps"][0]["said"]
        assert len(await client.jobs()) == 2
