"""A job of 20,000 shards on 200 nodes, replayed in a real browser: what a frame and a tab cost."""

import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from playwright.async_api import Page, Route, expect

from swarm_hub.util.clock import isoformat

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.nightly]

N_SHARDS, N_NODES, N_SLOTS = 20_000, 200, 2
BEGAN = 1_700_000_000.0
REPLAY_MS = 6000
CPU_MS, TAB_MB = 8.0, 150.0
COUNT_FRAMES = """() => {
  window.frames_ = 0;
  const next = () => { window.frames_ += 1; requestAnimationFrame(next); };
  next();
}"""


def shards() -> Iterator[dict[str, Any]]:
    dice = random.Random(1)
    free = {(node, slot): BEGAN for node in range(N_NODES) for slot in range(N_SLOTS)}
    for index in range(N_SHARDS):
        slot = min(free, key=lambda each: free[each])
        node_id, at, took_s = f"node-{slot[0]}", free[slot], 0.05 + dice.expovariate(0.5)
        attempts = []
        for state, reason in (("expired", "its node was lost"), ("finished", "exit: 3: no")):
            if dice.random() < 0.02:
                attempts.append((state, reason, at, at + took_s / 3))
                at += took_s / 3
        attempts.append(("finished", None, at, at + took_s))
        free[slot] = at + took_s
        yield {
            "index": index, "state": "done", "first_item": 10 * index, "n_items": 10,
            "attempts": [
                {
                    "attempt": number, "node_id": node_id, "state": state, "reason": reason,
                    "offered_at": isoformat(begins), "ended_at": isoformat(ends),
                }
                for number, (state, reason, begins, ends) in enumerate(attempts, 1)
            ],
            "result": {
                "node_id": node_id, "sha": "0" * 64, "size_bytes": 4, "wall_s": 0.95 * took_s,
                "cpu_s": 0.9 * took_s, "peak_memory_bytes": 1, "fuel": None, "stderr": "",
            },
        }  # fmt: skip


def status(all_shards: list[dict[str, Any]]) -> dict[str, Any]:
    ends = max(each["attempts"][-1]["ended_at"] for each in all_shards)
    items = 10 * N_SHARDS
    return {
        "job_id": "large", "status": "completed", "state": "completed", "reduce": "sum",
        "owner": "local", "name": "large", "labels": {}, "module_sha": "0" * 64,
        "progress": {
            "items": items, "items_done": items, "items_failed": 0, "shards": N_SHARDS,
            "shards_done": N_SHARDS, "retries": 800,
        },
        "created_at": isoformat(BEGAN), "started_at": isoformat(BEGAN), "finished_at": ends,
        "duration_s": 100.0, "failures": [], "failed_items": 0, "problem": None, "note": None,
        "waits": None, "nodes": [], "result": 5, "result_text": "5",
        "spec": {"abi": "range", "split": "range", "reduce": "sum", "priority": 0},
    }  # fmt: skip


def renderer() -> psutil.Process:
    """Return the process of the tab, which is the one with the most memory of its own."""
    found = [
        child
        for child in psutil.Process().children(recursive=True)
        if "--type=renderer" in child.cmdline()
    ]
    return max(found, key=lambda each: each.memory_full_info().uss)


def main_thread_s(process: psutil.Process) -> float:
    return next(
        each.user_time + each.system_time for each in process.threads() if each.id == process.pid
    )


async def test_a_frame_of_a_large_job_costs_little(page: Page) -> None:
    all_shards = list(shards())
    told = status(all_shards)

    async def answer(route: Route) -> None:
        asked = urlsplit(route.request.url)
        if not asked.path.endswith("/shards"):
            await route.fulfill(json=told)
            return
        query = parse_qs(asked.query)
        after = int(query.get("cursor", ["-1"])[0]) + 1
        found = all_shards[after : after + int(query["limit"][0])]
        last = found[-1]["index"]
        cursor = None if last == N_SHARDS - 1 else str(last)
        await route.fulfill(json={"shards": found, "cursor": cursor})

    await page.route("**/api/v1/jobs/large", answer)
    await page.route("**/api/v1/jobs/large/**", answer)
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.goto("/#/jobs/large")
    whole = page.get_by_text("200,000 of 200,000 items done")
    await expect(whole).to_be_visible(timeout=60_000)
    await page.get_by_label("How fast to replay").select_option("in 10 s")
    await page.evaluate(COUNT_FRAMES)
    tab = renderer()
    before_s, before_frames = main_thread_s(tab), await page.evaluate("window.frames_")
    await page.get_by_role("button", name="Replay").click()
    await page.wait_for_timeout(REPLAY_MS)
    frames = await page.evaluate("window.frames_") - before_frames
    cpu_ms = 1000 * (main_thread_s(tab) - before_s) / frames
    drawn = await page.evaluate("document.querySelector('hub-task-stream').nDrawn")
    tab_mb = tab.memory_full_info().uss / 1e6
    print(f"{frames} frames, {drawn} draws, {cpu_ms:.1f} ms of CPU each, {tab_mb:.0f} MB")
    assert drawn >= frames / 2
    assert cpu_ms <= CPU_MS
    assert tab_mb < TAB_MB
