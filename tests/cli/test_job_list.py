"""`job list` and `job rerun`: what is asked of the hub, and what is shown of its answer."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.command_line import Done

Beside = Callable[..., Awaitable[Done]]


def job(number: int, **more: Any) -> dict[str, Any]:
    progress = {"items": 1000, "items_done": 70, "shards": 4, "shards_done": 1, "retries": 0}
    return {
        "job_id": f"01M8MVX07FGHB7RS5HPN3DK4{number:02}", "state": "running",
        "created_at": "2026-01-01T00:00:00+00:00", "finished_at": None, "duration_s": None,
        "progress": progress, "owner": "ada", "name": None, "labels": {}, **more,
    }  # fmt: skip


class Gateway:
    """Answers with these jobs, in pages of three, and notes what it was asked."""

    def __init__(self, jobs: list[dict[str, Any]]) -> None:
        self._jobs = jobs
        self.asked: list[dict[str, str]] = []
        self.resubmitted: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.url = ""

    async def page(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        begin = int(request.query.get("cursor", "0"))
        end = begin + min(3, int(request.query["limit"]))
        cursor = str(end) if end < len(self._jobs) else None
        return web.json_response({"jobs": self._jobs[begin:end], "cursor": cursor})

    async def resubmit(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.resubmitted.append(request.match_info["job"])
        return web.json_response({"job_id": "01M8MVX07FGHB7RS5HPN3DK499"}, status=202)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway of seven jobs."""
    found = Gateway([job(number) for number in range(7)])
    app = web.Application()
    app.router.add_get("/api/v1/jobs", found.page)
    app.router.add_post("/api/v1/jobs/{job}/resubmit", found.resubmit)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_what_is_wanted_is_asked_of_the_hub(gateway: Gateway, run_beside: Beside) -> None:
    before = time.time()
    done = await run_beside(
        "job", "list", "--state", "queued,running", "--state", "failed", "--label", "kind=by night",
        "--label", "room=", "--since", "2h", "--owner", "ada", "--text", "sum", "--limit", "2",
        "--url", gateway.url,
    )  # fmt: skip
    assert done.code == 0, done.err
    (asked,) = gateway.asked
    since = int(asked.pop("since"))
    assert before - 7202 < since < time.time() - 7198
    assert asked == {
        "state": "queued,running,failed", "label.kind": "by night", "label.room": "",
        "owner": "ada", "text": "sum", "limit": "2",
    }  # fmt: skip
    assert len(done.out.splitlines()) == 1 + 2


async def test_pages_are_followed_until_there_are_enough(
    gateway: Gateway, run_beside: Beside
) -> None:
    for options, count in (((), 7), (("--limit", "4"), 4), (("--all",), 7)):
        gateway.asked.clear()
        done = await run_beside("job", "list", *options, "--json", "--url", gateway.url)
        assert len(json.loads(done.out)) == count, options
        assert [each.get("cursor") for each in gateway.asked] == [None, "3", "6"][
            : (count + 2) // 3
        ]


async def test_the_list_has_headings_and_all_that_matters(
    gateway: Gateway, run_beside: Beside
) -> None:
    gateway._jobs[:] = [
        job(1, name="nightly", module_sha="ab" * 32),
        job(2, state="completed", duration_s=200.0, created_at="1990-01-01T00:00:00+00:00"),
    ]
    lines = (await run_beside("job", "list", "--url", gateway.url)).out.splitlines()
    assert lines[0].split() == ["JOB", "STATE", "NAME", "ITEMS", "AGE", "TOOK", "OWNER", "MODULE"]
    assert lines[1].startswith("01M8MVX07FGHB7RS5HPN3DK401  running    nightly  70/1,000 7%  ")
    assert lines[1].endswith("  ada    abababababab")
    assert "  3 min 20 s  ada" in lines[2]
    gateway._jobs.clear()
    empty = await run_beside("job", "list", "--url", gateway.url)
    assert (empty.out, empty.err) == ("", "No job was submitted yet\n")
    empty = await run_beside("job", "list", "--state", "failed", "--url", gateway.url)
    assert empty.err == "There is no such job\n"


async def test_a_job_is_run_once_more(gateway: Gateway, run_beside: Beside) -> None:
    job_id = gateway._jobs[3]["job_id"]
    done = await run_beside("job", "rerun", job_id.lower(), "--url", gateway.url)
    assert (done.code, done.out) == (0, "01M8MVX07FGHB7RS5HPN3DK499\n")
    done = await run_beside("job", "rerun", job_id, "--json", "--url", gateway.url)
    assert json.loads(done.out) == {"job_id": "01M8MVX07FGHB7RS5HPN3DK499"}
    assert (await run_beside("job", "rerun", job_id, "--failed", "--url", gateway.url)).code == 0
    assert gateway.resubmitted == [job_id] * 3
    assert gateway.bodies == [{"spec": {}}] * 2 + [{"spec": {}, "items": "failed"}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--state", "done"), "expected queued, running, completed, failed, cancelled, got 'done'"),
        (("--label", "nightly"), "expected NAME=TEXT, got 'nightly'"),
        (("--since", "yesterday"), "expected a duration such as 300 or 24h"),
        (("--url", "http://"), "expected http://HOST:PORT, such as http://127.0.0.1:8470"),
        (("--url", "ftp://hub"), "expected http://HOST:PORT"),
        (("--url", "hub:port"), "expected http://HOST:PORT"),
        (("--url", "a b"), "expected http://HOST:PORT"),
        (("--url", ""), "expected http://HOST:PORT"),
    ],
)
async def test_a_mistake_is_told_in_one_line(
    run_beside: Beside, options: tuple[str, ...], said: str
) -> None:
    done = await run_beside("job", "list", *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
