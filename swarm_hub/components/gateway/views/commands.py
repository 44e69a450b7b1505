"""The gateway's commands: its views of jobs and nodes over the websocket, and jobs to follow."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.shapes import NodeDetails
from swarm_hub.components.gateway.views.jobs import told
from swarm_hub.components.gateway.views.submissions import JSON_KEYS
from swarm_hub.endpoints import (
    Command,
    CommandCall,
    CommandRequest,
    EventFilter,
    EventStream,
    Scope,
    StreamBegins,
    StreamEnd,
    View,
    text,
    view_command,
)
from swarm_hub.exceptions import Gone, NotFound
from swarm_hub.models.event import ENDS_OF_JOBS
from swarm_hub.util.bounds import INT64_MAX, is_int

_ID: Final = text(200, min_length=1)
# By the view that each is over the websocket.
_OF_VIEWS: Final = {
    "GET /jobs": "jobs/list",
    "GET /jobs/{job_id}": "jobs/get",
    "DELETE /jobs/{job_id}": "jobs/cancel",
    "GET /nodes": "nodes/list",
    "POST /nodes/{node_id}/approve": "nodes/approve",
    "POST /nodes/{node_id}/ban": "nodes/ban",
    "POST /nodes/{node_id}/unban": "nodes/unban",
    "POST /nodes/{node_id}/drain": "nodes/drain",
    "POST /nodes/{node_id}/undrain": "nodes/undrain",
    "POST /nodes/{node_id}/label": "nodes/label",
}
# How long the end of a job may take from its event to where it is asked for.
_ENDED_WITHIN_S: Final = 10.0


def commands(views: Iterable[View], service: JobService, fleet: Fleet) -> list[Command]:
    """Return the commands; most are views."""
    by_name = {str(view): view for view in views}
    own = _Commands(service, fleet)
    return [
        *(view_command(name, by_name[of]) for of, name in _OF_VIEWS.items()),
        view_command(
            "jobs/submit", by_name["POST /jobs"], without=("wait",), raw=JSON_KEYS,
            headers={"idempotency_key": "Idempotency-Key"},
        ),
        Command("nodes/show", own.show, Scope.READ, {vol.Required("node_id"): _ID}, NodeDetails),
        Command(
            "subscribe_job", own.follow, Scope.READ, {vol.Required("job_id"): _ID, "since": _seq},
            StreamBegins,
        ),
    ]  # fmt: skip


class _Commands:
    def __init__(self, service: JobService, fleet: Fleet) -> None:
        self._service = service
        self._fleet = fleet

    async def show(self, call: CommandCall) -> NodeDetails:
        """Return one node."""
        return await self._fleet.one(call.params["node_id"])

    async def follow(self, call: CommandCall) -> EventStream:
        """Send a job's status, its events as they come, and its status when it has ended."""
        caller, job_id = call.connection.caller, call.params["job_id"]
        if not caller.sees_all:
            await self._service.check_owner(job_id, caller.account)
        # Of a job that isn't there, or not any more, this says so.
        await self._service.check_kept(job_id)
        request = CommandRequest(caller)

        async def first() -> Sequence[Mapping[str, Any]]:
            status = told(request, await self._service.status(job_id, 0))
            return [{"event_type": "job_status", "data": status}]

        async def last() -> Mapping[str, Any]:
            try:
                status = await self._service.ended(job_id, _ENDED_WITHIN_S)
            except (Gone, NotFound) as error:
                # It was removed a moment after it had ended.
                return {"event_type": "job_ended", "data": {"job_id": job_id, "why": str(error)}}
            return {"event_type": "job_ended", "data": told(request, status)}

        async def end_seq() -> int | None:
            return await self._service.end_seq(job_id)

        end = StreamEnd(frozenset(ENDS_OF_JOBS), end_seq, last)
        since = call.params.get("since")
        return EventStream(EventFilter(job_id=job_id), since, first, end)


def _seq(value: Any) -> int:
    if not is_int(value, 0, INT64_MAX):
        raise vol.Invalid("expected the seq of an event")
    return int(value)
