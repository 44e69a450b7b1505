"""Views of jobs that were taken in."""

from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.results.reduce import MEDIA_TYPES
from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.shapes import (
    FailurePage,
    JobPage,
    JobStatus,
    Receipts,
    Shards,
    Story,
)
from swarm_hub.components.gateway.views.job_filters import FILTERS, job_filter, seen_alone
from swarm_hub.const import __version__
from swarm_hub.endpoints import (
    Blob,
    Json,
    Request,
    Scope,
    Success,
    Unchanged,
    View,
    flag,
    text,
    whole_number,
    words,
)
from swarm_hub.exceptions import Conflict, Gone
from swarm_hub.models.shard import ShardState
from swarm_hub.util.bounds import ITEMS_MAX
from swarm_hub.util.hashing import sha256_hex

_WAIT_MAX_S: Final = 60
_CURSOR: Final = text(200)
# Swarm Runtime's clients tell from the HTTP status whether a job has ended.
_HIDDEN: Final = "(hidden)"
# How many seconds an answer may be held.
WAIT: Final = {"wait": whole_number(0, _WAIT_MAX_S)}
_VERSION_DIGITS: Final = 24
_TOLD: Final = {
    "Swarm-Items-Done": "Of how many items this is the result.",
    "Swarm-Items": "How many items the job has.",
}
_SUCCESS: Final = {"queued": Success.ACCEPTED, "running": Success.PARTIAL}


def limited(default: int, most: int) -> dict[Any, Any]:
    """Return the query field of how many entries are wanted."""
    return {vol.Optional("limit", default=str(default)): whole_number(1, most)}


def page_of(default: int, most: int) -> dict[Any, Any]:
    """Return the query fields of a page: how many entries, and what they come after."""
    return {"cursor": _CURSOR, **limited(default, most)}


def views(service: JobService) -> list[View]:
    """Return the views."""
    read, submit, own = Scope.READ, Scope.SUBMIT, _JobViews(service)
    job, pruned = "/jobs/{job_id}", (Gone,)
    return [
        View("GET", "/jobs", own.page, read, JobPage, {**FILTERS, **page_of(50, 500)}),
        View(
            "GET", job, own.status, read, JobStatus, WAIT, versioned=True,
            successes=(Success.OK, *_SUCCESS.values()), errors=pruned,
        ),
        View("DELETE", job, own.cancel, submit, JobStatus, errors=pruned),
        View(
            "GET", f"{job}/result", own.result, read, bytes, {"partial": flag},
            errors=(Gone, Conflict), media_types=MEDIA_TYPES, answer_headers=_TOLD, versioned=True,
        ),
        View(
            "GET", f"{job}/shards", own.shards, read, Shards,
            {
                "state": words(ShardState), "node": _CURSOR,
                "cursor": whole_number(0, 2**31), **limited(1000, 5000),
            },
            errors=pruned, versioned=True,
        ),
        View(
            "GET", f"{job}/failures", own.failures, read, FailurePage,
            {"cursor": whole_number(0, ITEMS_MAX), **limited(100, 500)}, errors=pruned,
        ),
        View(
            "GET", f"{job}/receipts", own.receipts, read, Receipts,
            {"node": _CURSOR, **page_of(100, 500)},
            errors=pruned,
        ),
        View(
            "GET", f"{job}/story", own.story, read, Story,
            {"after": whole_number(0, 2**62), **limited(1000, 10_000)}, errors=pruned,
            versioned=True,
        ),
    ]  # fmt: skip


class _JobViews:
    def __init__(self, service: JobService) -> None:
        self._service = service

    async def _visible(self, request: Request) -> str:
        return await visible(self._service, request)

    async def page(self, request: Request) -> Json:
        """List jobs, newest first."""
        query = request.query
        wanted = job_filter(query, seen_alone(request))
        found, cursor = await self._service.page(wanted, query.get("cursor"), query["limit"])
        page: JobPage = {"jobs": found, "cursor": cursor}
        return Json(page)

    async def _known_version(self, request: Request, job_id: str) -> str | None:
        """Return the version of an ended job that the caller has, so that nothing is to be built.

        A job that runs has none: whoever follows it waits for its changes, or for its events.
        """
        if request.header("If-None-Match") is None:
            return None
        version = ended_version(request, await self._service.ended_at(job_id))
        return version if version is not None and request.has_version(version) else None

    async def status(self, request: Request) -> Json | Unchanged:
        """Return a job's status, held for up to `wait` seconds until its state changes."""
        job_id, wait_s = await self._visible(request), request.query.get("wait", 0)
        if (known := await self._known_version(request, job_id)) is not None:
            return Unchanged(known, forever=False)
        status = await self._service.status(job_id, wait_s)
        ended_at = status["finished_at"]
        success = _SUCCESS.get(status["state"], Success.OK)
        return Json(told(request, status), success, etag=ended_version(request, ended_at))

    async def cancel(self, request: Request) -> Json:
        """Cancel a job; one that has ended stays as it is."""
        status = await self._service.cancel(await self._visible(request), named(request))
        return Json(told(request, status))

    async def result(self, request: Request) -> Blob | Unchanged:
        """Return a job's result in bytes; with `partial` what was done of one that has none."""
        job_id, partial = await self._visible(request), request.query.get("partial", False)
        if (known := await self._known_version(request, job_id)) is not None:
            return Unchanged(known)
        found = await self._service.result(job_id, partial=partial)
        # Of a partial result this shows how much it is of.
        told = {"Swarm-Items-Done": str(found.n_done_items), "Swarm-Items": str(found.n_items)}
        version = ended_version(request, found.ended_at)
        return Blob(await request.enter(found.reading), found.media_type, version, told)

    async def shards(self, request: Request) -> Json | Unchanged:
        """List a job's shards with every attempt, in the order of cutting."""
        job_id, query = await self._visible(request), request.query
        if (known := await self._known_version(request, job_id)) is not None:
            return Unchanged(known, forever=False)
        version = ended_version(request, await self._service.ended_at(job_id))
        found, cursor = await self._service.shards(
            job_id, query.get("state", frozenset()), query.get("node"), query.get("cursor", -1),
            query["limit"],
        )  # fmt: skip
        after = None if cursor is None else str(cursor)
        shards: Shards = {"shards": found, "cursor": after}
        return Json(shards, etag=version)

    async def failures(self, request: Request) -> Json:
        """List the items of a job that failed, each range once, with where they are and why."""
        cursor, limit = request.query.get("cursor", -1), request.query["limit"]
        found = await self._service.failures(await self._visible(request), cursor, limit)
        after = str(found[-1]["first_item"]) if len(found) == limit else None
        page: FailurePage = {"failures": found, "cursor": after}
        return Json(page)

    async def receipts(self, request: Request) -> Json:
        """List a job's signed receipts with the results that they are of."""
        job_id, query = await self._visible(request), request.query
        found = await self._service.receipts(
            job_id, query.get("node"), query.get("cursor"), query["limit"]
        )
        return Json(found)

    async def story(self, request: Request) -> Json | Unchanged:
        """List a job's transitions in order."""
        job_id, query = await self._visible(request), request.query
        if (known := await self._known_version(request, job_id)) is not None:
            return Unchanged(known, forever=False)
        version = ended_version(request, await self._service.ended_at(job_id))
        found = await self._service.story(job_id, query.get("after", 0), query["limit"])
        story: Story = {"events": [event.shape() for event in found]}
        return Json(story, etag=version)


def ended_version(request: Request, ended_at: str | None) -> str | None:
    """Return the version of what a caller is told of a job that ended then, None of one that runs.

    It does not change any more, but what may be seen of it differs by token.
    """
    if ended_at is None or request.caller is None:
        return None
    told = (__version__, request.path["job_id"], ended_at, request.caller.id)
    return sha256_hex("\n".join(told).encode())[:_VERSION_DIGITS]


def named(request: Request) -> str:
    """Return the name of a caller's token, for the log."""
    return "nobody" if request.caller is None else request.caller.name


async def visible(service: JobService, request: Request) -> str:
    """Return the id of the job that is asked for; raises NotFound for another owner's."""
    job_id = request.path["job_id"]
    if (owner := seen_alone(request)) is not None:
        await service.check_owner(job_id, owner)
    return job_id


def links(request: Request, job_id: str) -> dict[str, str]:
    """Return links to what belongs to a job."""
    base = request.link(f"/jobs/{job_id}")
    parts = {
        name: f"{base}/{name}" for name in ("result", "shards", "failures", "receipts", "story")
    }
    return {"self": base, **parts}


def told(request: Request, status: JobStatus) -> JobStatus:
    """Add links; the values of a job's environment are for its owner and for admins."""
    caller = request.caller
    assert caller is not None, "the scope asks for a token"
    is_own = caller.account == status["owner"]
    if not is_own and caller.scope != Scope.ADMIN:
        spec = status["spec"]
        status["spec"] = {**spec, "env": [[name, _HIDDEN] for name, _ in spec["env"]]}
    status["links"] = links(request, status["job_id"])
    if "result_sha" in status:
        # A large result can also be fetched by its hash from another hub.
        status["links"]["data"] = request.link(f"/data/{status['result_sha']}")
    return status
