"""What clients ask of automations: which there are, what they did, and to run one now."""

from typing import Any, Final, TypedDict

import voluptuous as vol

from swarm_hub.components.automation.engine import Engine
from swarm_hub.components.automation.model import Automation
from swarm_hub.components.automation.outbox import Outbox
from swarm_hub.components.automation.runs import Maker
from swarm_hub.core import Hub
from swarm_hub.endpoints import Json, Request, Scope, Success, View
from swarm_hub.endpoints.fields import text
from swarm_hub.exceptions import Gone, NotFound
from swarm_hub.storage.queries import automations as queries
from swarm_hub.storage.queries.automations import OPEN, Run
from swarm_hub.util.clock import isoformat

_ID_MAX_CHARS: Final = 100
_NOTICES: Final = 5


class StepShape(TypedDict):
    """One action of a run: `open`, `done` or `failed`, how often it was tried, what came of it."""

    kind: str
    state: str
    tries: int
    said: str


class TriggerShape(TypedDict):
    """What triggered a run: `event`, `absence`, `time`, `threshold` or `manual`."""

    kind: str
    at: str
    event_type: str | None
    seq: int | None
    job_id: str | None
    value: float | None


class TraceShape(TypedDict):
    """One run: `open`, `done`, `failed` or `refused`; `said` is why it did not begin."""

    trigger_id: str
    state: str
    created_at: str
    next_at: str | None
    depth: int
    said: str
    trigger: TriggerShape
    steps: list[StepShape]


class TracesShape(TypedDict):
    """The newest runs of an automation, newest first."""

    traces: list[TraceShape]


class LastRunShape(TypedDict):
    """How the newest run of an automation is."""

    trigger_id: str
    state: str
    created_at: str


class AutomationShape(TypedDict):
    """One automation; `waiting` is how many runs of it are not at their end."""

    id: str
    alias: str
    enabled: bool
    actions: list[str]
    waiting: int
    last_run: LastRunShape | None


class NoticeShape(TypedDict):
    """What an automation told a person."""

    automation: str
    at: str
    message: str


class AutomationsShape(TypedDict):
    """All automations; `acting` is false where another gateway of the store runs them."""

    automations: list[AutomationShape]
    notices: list[NoticeShape]
    acting: bool


def views(hub: Hub, engine: Engine, maker: Maker, outbox: Outbox) -> list[View]:
    """Return the views."""
    own, one = _Views(hub, engine, maker, outbox), "/automations/{automation_id}"
    body = vol.Schema({vol.Optional("job_id"): text(_ID_MAX_CHARS, min_length=1)})
    missing = (NotFound,)
    return [
        View("GET", "/automations", own.list, Scope.READ, AutomationsShape),
        View("GET", f"{one}/traces", own.traces, Scope.ADMIN, TracesShape, errors=missing),
        View(
            "POST", f"{one}/trigger", own.trigger, Scope.ADMIN, TraceShape, body=body,
            successes=(Success.ACCEPTED,), errors=(NotFound, Gone),
        ),
        View("POST", f"{one}/enable", own.enable, Scope.ADMIN, AutomationShape, errors=missing),
        View("POST", f"{one}/disable", own.disable, Scope.ADMIN, AutomationShape, errors=missing),
    ]  # fmt: skip


class _Views:
    def __init__(self, hub: Hub, engine: Engine, maker: Maker, outbox: Outbox) -> None:
        self._hub = hub
        self._engine = engine
        self._maker = maker
        self._outbox = outbox

    async def list(self, _request: Request) -> Json:
        """List the automations with the newest run of each, and what they told."""
        waiting = await self._hub.store.read(queries.n_open)
        told = await self._hub.store.read(queries.notices, _NOTICES)
        content: AutomationsShape = {
            "automations": [
                await self._described(each, waiting) for each in self._engine.config.automations
            ],
            "notices": [
                {
                    "automation": each.data["automation"], "at": isoformat(each.time_fired),
                    "message": each.data["message"],
                }
                for each in told
            ],
            "acting": self._engine.leads,
        }  # fmt: skip
        return Json(content)

    async def traces(self, request: Request) -> Json:
        """Return the last 20 runs of an automation, and those that are not at their end."""
        automation = self._of(request)
        found = await self._hub.store.read(queries.traces, automation.id, 2 * queries.TRACES_KEPT)
        content: TracesShape = {"traces": [_trace(run) for run in found]}
        return Json(content)

    async def trigger(self, request: Request) -> Json:
        """Run an automation now, whatever its conditions say.

        With `job_id` it is as if an event of that job had triggered it.
        """
        automation = self._of(request)
        assert request.caller is not None, "the scope asks for a token"
        job_id = request.body.get("job_id")
        run = await self._maker.by_hand(automation, job_id, request.caller.account)
        await self._hub.store.change(queries.add, run)
        self._outbox.wake()
        return Json(_trace(run), Success.ACCEPTED)

    async def enable(self, request: Request) -> Json:
        """Let an automation be triggered again."""
        return await self._enable(request, enabled=True)

    async def disable(self, request: Request) -> Json:
        """Let nothing trigger an automation, until it is enabled again."""
        return await self._enable(request, enabled=False)

    async def _enable(self, request: Request, *, enabled: bool) -> Json:
        automation = self._of(request)
        await self._engine.enable(automation.id, enabled=enabled)
        return Json(await self._described(automation, await self._hub.store.read(queries.n_open)))

    def _of(self, request: Request) -> Automation:
        wanted = request.path["automation_id"]
        for each in self._engine.config.automations:
            if each.id == wanted:
                return each
        raise NotFound(
            "unknown_automation",
            f"there is no automation {wanted}; see: swarm-hub automation list",
        )

    async def _described(self, automation: Automation, waiting: dict[str, int]) -> AutomationShape:
        newest = await self._hub.store.read(queries.traces, automation.id, 1)
        return {
            "id": automation.id,
            "alias": automation.alias,
            "enabled": self._engine.enabled.get(automation.id, True),
            "actions": [each.kind for each in automation.actions],
            "waiting": waiting.get(automation.id, 0),
            "last_run": None if not newest else _last_run(newest[0]),
        }


def _last_run(run: Run) -> LastRunShape:
    return {
        "trigger_id": f"{run.automation}:{run.id}", "state": run.state,
        "created_at": isoformat(run.created_at),
    }  # fmt: skip


def _trace(run: Run) -> TraceShape:
    trigger: dict[str, Any] = run.body["trigger"]
    return {
        "trigger_id": f"{run.automation}:{run.id}",
        "state": run.state,
        "created_at": isoformat(run.created_at),
        "next_at": isoformat(run.next_at) if run.state == OPEN else None,
        "depth": run.body["depth"],
        "said": run.body["said"],
        "trigger": {
            "kind": trigger["kind"], "at": isoformat(trigger["at"]), "value": trigger["value"],
            "event_type": trigger["event_type"], "seq": trigger["seq"],
            "job_id": trigger["job_id"],
        },
        "steps": [
            {
                "kind": step["kind"], "state": step["state"], "tries": step["tries"],
                "said": step["said"],
            }
            for step in run.body["steps"]
        ],
    }  # fmt: skip
