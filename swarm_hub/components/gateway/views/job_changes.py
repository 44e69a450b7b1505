"""Views that change jobs that were taken in: their values, the end of many, and a repetition."""

import dataclasses
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.shapes import CancelledJobs, JobStatus, SubmittedShape
from swarm_hub.components.gateway.submission.spec import CHANGE_SCHEMA, RESUBMISSION_SCHEMA
from swarm_hub.components.gateway.views.job_filters import FILTERS, job_filter, seen_alone
from swarm_hub.components.gateway.views.jobs import named, told, visible
from swarm_hub.components.gateway.views.submission_shapes import HEADERS
from swarm_hub.components.gateway.views.submissions import idempotency_key, submitted_shape
from swarm_hub.endpoints import Json, Request, Scope, Success, View, text
from swarm_hub.exceptions import Conflict, Gone, InvalidInput
from swarm_hub.models.job import JobState
from swarm_hub.models.job_change import JobChange
from swarm_hub.storage.queries.listing import JobFilter
from swarm_hub.util.described import described

_CANCELLED_MAX: Final = 500
_ID_MAX_CHARS: Final = 200
_ID: Final = text(_ID_MAX_CHARS)
_UNFINISHED: Final = frozenset({JobState.QUEUED, JobState.RUNNING})


@described(
    {
        "type": "array",
        "minItems": 1,
        "maxItems": _CANCELLED_MAX,
        "items": {"type": "string", "maxLength": _ID_MAX_CHARS},
    }
)
def _ids(value: Any) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= _CANCELLED_MAX:
        raise vol.Invalid(f"expected a list of 1 to {_CANCELLED_MAX} ids of jobs")
    return list(dict.fromkeys(_ID(each) for each in value))


_CANCEL: Final = vol.Schema(
    {
        vol.Exclusive("ids", "which"): _ids,
        vol.Exclusive("filter", "which"): vol.Schema({**FILTERS, "cursor": _ID}),
    }
)


def views(service: JobService) -> list[View]:
    """Return the views."""

    async def change(request: Request) -> Json:
        """Change the priority, labels or deadline of an unfinished job; durable when answered."""
        job_id = await visible(service, request)
        await service.check_kept(job_id)
        if not request.body:
            raise InvalidInput(
                "invalid_request", "say what to change: priority, labels, deadline_s"
            )
        return Json(told(request, await service.change(job_id, JobChange(request.body))))

    async def cancel(request: Request) -> Json:
        """Cancel up to 500 jobs, by their ids or by what a list is narrowed to."""
        own, cursor = seen_alone(request), None
        job_ids = request.body.get("ids")
        if job_ids is None:
            query = request.body.get("filter")
            if not query:
                raise InvalidInput(
                    "invalid_request", "say which: ids, or a filter that is not empty"
                )
            wanted = _unfinished(job_filter(query, own))
            found, cursor = await service.page(wanted, query.get("cursor"), _CANCELLED_MAX)
            job_ids = [each["job_id"] for each in found]
        answer: CancelledJobs = {
            "jobs": await service.cancel_many(job_ids, own, named(request)),
            "cursor": cursor,
        }  # fmt: skip
        return Json(answer)

    async def resubmit(request: Request) -> Json:
        """Submit a job, or some of its items, once more: module and spec are as they were.

        Of the spec some keys may be changed; `items` is `failed` or says which of them.
        """
        key = idempotency_key(request)
        job_id = await visible(service, request)
        assert request.caller is not None, "the scope asks for a token"
        submitted = await service.resubmit(
            job_id, request.body["spec"], request.body["items"], request.caller.account, key
        )
        shape = submitted_shape(request, submitted.job_id)
        return Json(shape, Success.ACCEPTED, f"/jobs/{submitted.job_id}")

    submit, job = Scope.SUBMIT, "/jobs/{job_id}"
    return [
        View(
            "PATCH", job, change, submit, JobStatus, body=CHANGE_SCHEMA, errors=(Gone, Conflict)
        ),
        View("POST", "/jobs/cancel", cancel, submit, CancelledJobs, body=_CANCEL),
        View(
            "POST", f"{job}/resubmit", resubmit, submit, SubmittedShape, body=RESUBMISSION_SCHEMA,
            successes=(Success.ACCEPTED,), errors=(Gone, Conflict),
            request_headers=HEADERS,
        ),
    ]  # fmt: skip


def _unfinished(wanted: JobFilter) -> JobFilter:
    """Return what is wanted without jobs that have ended."""
    states = wanted.states & _UNFINISHED if wanted.states else _UNFINISHED
    if not states:
        raise InvalidInput.at("filter.state", "jobs that have ended can't be cancelled")
    return dataclasses.replace(wanted, states=states)
