"""From what triggered an automation to a run: what its templates see, and what is to be done."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from ulid_transform import ulid_now

from swarm_hub.components.automation.effects import DEPTH_LABEL
from swarm_hub.components.automation.model import Automation
from swarm_hub.components.automation.rendering import Renderer, TemplateError
from swarm_hub.components.automation.watch import Firing, Watch
from swarm_hub.core import Hub
from swarm_hub.exceptions import NotFound
from swarm_hub.models.event import EventType
from swarm_hub.models.job import Job
from swarm_hub.storage.queries import automations as queries
from swarm_hub.storage.queries import jobs
from swarm_hub.storage.queries.automations import OPEN, Run
from swarm_hub.util.clock import isoformat

_LOGGER = logging.getLogger(__name__)

DONE: Final = "done"
FAILED: Final = "failed"
REFUSED: Final = "refused"
# Of one automation; a webhook may wait for a day.
_OPEN_MAX: Final = 1000
_RESULT_MAX_BYTES: Final = 16 * 1024
_FAILURES_SHOWN: Final = 3
_FAILURE_CHARS: Final = 1000
_NO_OWNER: Final = "automation"
# What these reduce to is bytes, which need not be JSON.
_BYTES_REDUCED: Final = ("concat", "files", "module")


class Maker:
    """Makes runs, with every template rendered."""

    def __init__(self, hub: Hub, renderer: Renderer) -> None:
        self._hub = hub
        self._renderer = renderer

    async def make(self, watch: Watch, firing: Firing) -> Run | None:
        """Return the run that was triggered, which may be refused; None if that was told before."""
        automation = watch.automation
        depth = await self._depth(firing)
        if depth >= automation.max_depth:
            return self._refused(
                automation, firing, depth,
                f"{depth} automations in a row have led to this one (max_depth)",
            )  # fmt: skip
        is_within, is_first_beyond = watch.count(self._hub.clock.time())
        if not is_within:
            said = f"more than {automation.max_per_hour} in an hour (max_per_hour)"
            return self._refused(automation, firing, depth, said) if is_first_beyond else None
        if (await self._hub.store.read(queries.n_open)).get(automation.id, 0) >= _OPEN_MAX:
            return self._refused(automation, firing, depth, f"{_OPEN_MAX} runs of it wait already")
        job_id = None if firing.event is None else firing.event.job_id
        return await self._run(automation, firing, depth, await self._job(job_id), _NO_OWNER)

    async def by_hand(self, automation: Automation, job_id: str | None, owner: str) -> Run:
        """Return the run that a person asks for; raises NotFound without such a job."""
        job = await self._job(job_id)
        if job_id is not None and job is None:
            raise NotFound("not_found", f"there is no job {job_id}")
        firing = Firing(f"m{ulid_now()}", "manual", self._hub.clock.time())
        return await self._run(automation, firing, 0, job, owner)

    async def _job(self, job_id: str | None) -> Job | None:
        return None if job_id is None else await self._hub.store.read(jobs.get, job_id)

    async def _depth(self, firing: Firing) -> int:
        event = firing.event
        if event is None:
            return 0
        if event.event_type is EventType.AUTOMATION_NOTIFIED:
            return int(event.data["depth"])
        if event.job_id is None:
            return 0
        facts = (await self._hub.endpoints.find_job_facts([event.job_id])).get(event.job_id)
        said = dict(facts.labels).get(DEPTH_LABEL, "") if facts is not None else ""
        return int(said) if said.isascii() and said.isdigit() and len(said) < 6 else 0

    async def _run(
        self, automation: Automation, firing: Firing, depth: int, job: Job | None, owner: str
    ) -> Run:
        values = _values(automation, firing, job)
        steps: list[dict[str, Any]] = []
        state, said = OPEN, ""
        try:
            for action in automation.actions:
                content = await self._renderer.render(action.content, values)
                steps.append(
                    {"kind": action.kind, "content": content, "state": OPEN, "tries": 0, "said": ""}
                )
        except TemplateError as error:
            state, said = FAILED, f"action {len(steps)}: {error}"
            steps = []
            _LOGGER.warning("%s (%s): %s", automation.alias, firing.kind, said)
        body = {
            "trigger": _trigger(firing, job), "depth": depth,
            "owner": owner if job is None else job.owner, "steps": steps, "said": said,
        }  # fmt: skip
        now = self._hub.clock.time()
        return Run(automation.id, firing.id, state, now, now, body)

    def _refused(self, automation: Automation, firing: Firing, depth: int, why: str) -> Run:
        _LOGGER.warning("%s (%s) is not run: %s", automation.alias, firing.kind, why)
        body = {
            "trigger": _trigger(firing, None), "depth": depth, "owner": _NO_OWNER, "steps": [],
            "said": why,
        }  # fmt: skip
        now = self._hub.clock.time()
        return Run(automation.id, firing.id, REFUSED, now, now, body)


def _trigger(firing: Firing, job: Job | None) -> dict[str, Any]:
    event = firing.event
    job_id = job.id if job is not None else None if event is None else event.job_id
    return {
        "kind": firing.kind, "at": firing.at, "value": firing.value, "job_id": job_id,
        "event_type": None if event is None else event.event_type.value,
        "seq": None if event is None else event.seq,
    }  # fmt: skip


def _values(automation: Automation, firing: Firing, job: Job | None) -> Mapping[str, Any]:
    """Return what templates see."""
    values: dict[str, Any] = {
        "automation": {"id": automation.id, "alias": automation.alias},
        "trigger": {
            "id": f"{automation.id}:{firing.id}", "kind": firing.kind,
            "at": isoformat(firing.at), "value": firing.value,
        },
    }  # fmt: skip
    if firing.event is not None:
        values["event"] = firing.event.shape()
    if job is not None:
        values["job"] = {
            "id": job.id, "name": job.spec.name, "labels": dict(job.spec.labels),
            "owner": job.owner, "state": job.state.value, "n_items": job.n_items,
            "n_failed_items": job.n_failed_items,
            "failures": [each[:_FAILURE_CHARS] for each in job.failures[:_FAILURES_SHOWN]],
        }  # fmt: skip
        if job.result_inline is not None and len(job.result_inline) <= _RESULT_MAX_BYTES:
            values["result"] = _result(job.result_inline, job.spec.reduce)
    return values


def _result(body: bytes, reduce: str) -> Any:
    text = body.decode("utf-8", "replace")
    if reduce in _BYTES_REDUCED:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
