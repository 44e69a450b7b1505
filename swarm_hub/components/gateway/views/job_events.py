"""The view of a job's events as they happen."""

from typing import Final

from swarm_hub.components.gateway.job_feeds import JobFeeds
from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.views.jobs import visible
from swarm_hub.endpoints import Events, Request, Scope, View, whole_number
from swarm_hub.exceptions import Gone, MalformedRequest
from swarm_hub.models.event import EventShape

_SEQ_MAX: Final = 2**62
_SEQ: Final = {"type": "string", "pattern": "^[0-9]{1,18}$"}


def view(service: JobService, feeds: JobFeeds) -> View:
    """Return the view."""

    async def events(request: Request) -> Events:
        """Send a job's events, from the first or after `since`, until its last has happened."""
        job_id = await visible(service, request)
        after = request.query.get("since", 0)
        # A browser that comes back asks as it did at first, and names what it has in this header.
        if (last := request.header("Last-Event-ID")) is not None:
            if not (last.isascii() and last.isdigit() and len(last) < 19):
                raise MalformedRequest(
                    "invalid_header", "Last-Event-ID: expected the seq of an event"
                )
            after = int(last)
        feed = await request.enter(feeds.following(job_id))
        ended = await service.has_ended(job_id)
        return Events(feeds.events(job_id, feed, after, ended=ended))

    return View(
        "GET", "/jobs/{job_id}/events", events, Scope.READ, EventShape,
        {"since": whole_number(0, _SEQ_MAX)}, events=True,
        errors=(Gone,), request_headers={"Last-Event-ID": _SEQ},
    )  # fmt: skip
