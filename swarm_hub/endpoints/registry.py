"""The registry of a hub's views and commands."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import voluptuous as vol

from swarm_hub.endpoints.command import Command
from swarm_hub.endpoints.events import JobFacts, JobKnowledge
from swarm_hub.endpoints.request import Scope
from swarm_hub.endpoints.view import View
from swarm_hub.exceptions import SetupError
from swarm_hub.models.event import EventType
from swarm_hub.util.metrics import Metric, ReadMetrics

if TYPE_CHECKING:
    from swarm_hub.endpoints.place import Place

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PATH: Final = re.compile(r"(/|(/([A-Za-z0-9._~-]+|\{[a-z][a-z0-9_]*\}))+)\Z", re.ASCII)
_PARAMETER: Final = re.compile(r"\{[^}]*\}")
_COMMAND: Final = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*\Z", re.ASCII)


class Endpoints:
    """What the API of one hub serves; filled while components are set up."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, str, bool], View] = {}
        self._commands: dict[str, tuple[Command, vol.Schema]] = {}
        self._places: dict[str, Place] = {}
        self._health: list[Callable[[], Mapping[str, Any]]] = []
        self._limits: list[Callable[[], Mapping[str, Any]]] = []
        self._metrics: list[ReadMetrics] = []
        self._explain: Callable[[str], str | None] = lambda _path: None
        self._jobs: JobKnowledge | None = None
        self._event_types = {kind.value for kind in EventType}
        self._sealed = False

    @property
    def views(self) -> tuple[View, ...]:
        """Every view, in the order of registration."""
        return tuple(self._views.values())

    def add_view(self, view: View) -> None:
        """Have a view served; raises SetupError that says what is wrong with it."""
        self._check_open(f"view {view}")
        if view.method not in _METHODS:
            raise SetupError(f"view {view}: its method must be one of {', '.join(_METHODS)}")
        if not _PATH.match(view.path):
            raise SetupError(f"view {view}: its path must be such as /jobs/{{job_id}}/result")
        if not isinstance(view.scope, Scope):
            raise SetupError(f"view {view}: it has no scope; give it one of {_scopes(Scope)}")
        if view.answer is None:
            raise SetupError(f"view {view}: it does not say what it answers (answer=)")
        if view.method in ("PUT", "PATCH") and view.body is None:
            raise SetupError(f"view {view}: it does not say what it takes (body=)")
        # Two paths that differ only in the names of parameters are the same path.
        key = (view.method, _PARAMETER.sub("{}", view.path), view.outside)
        if key in self._views:
            raise SetupError(f"view {view}: there is such a view already, {self._views[key]}")
        self._views[key] = view

    def command(self, name: str) -> tuple[Command, vol.Schema] | None:
        """Return the command of that name, with the schema of its parameters."""
        return self._commands.get(name)

    @property
    def commands(self) -> tuple[Command, ...]:
        """Every command, in the order of registration."""
        return tuple(command for command, _ in self._commands.values())

    def add_command(self, command: Command) -> None:
        """Have a command served; raises SetupError that says what is wrong with it."""
        what = f"command {command.name!r}"
        self._check_open(what)
        if not _COMMAND.match(command.name):
            raise SetupError(f"{what}: its name must be such as nodes/list")
        needed = [scope for scope in Scope if scope is not Scope.PUBLIC]
        if command.scope not in needed:
            raise SetupError(f"{what}: it has no scope; give it one of {_scopes(needed)}")
        if command.params is None or command.result is None:
            raise SetupError(f"{what}: it does not say what it takes and gives (params=, result=)")
        if command.name in self._commands:
            raise SetupError(f"{what}: there is such a command already")
        self._commands[command.name] = command, vol.Schema(dict(command.params))

    @property
    def places(self) -> "tuple[Place, ...]":
        """Every place on the page that a component brought."""
        return tuple(self._places.values())

    def add_place(self, place: "Place") -> None:
        """Have a place on the page, if there is one; raises SetupError if it can't be."""
        self._check_open(f"place {place.name!r}")
        place.read()
        if place.name in self._places:
            raise SetupError(f"place {place.name!r}: there is such a place already")
        self._places[place.name] = place

    def seal(self) -> None:
        """Accept no more views, commands and places: the API is about to serve what there is."""
        self._sealed = True

    def _check_open(self, what: str) -> None:
        if self._sealed:
            raise SetupError(f"{what}: the hub has started; register it in async_setup")

    @property
    def event_types(self) -> frozenset[str]:
        """Every type of events that clients may ask for."""
        return frozenset(self._event_types)

    def add_event_type(self, event_type: str) -> None:
        """Let clients ask for passing events of this type; the durable ones are known."""
        self._check_open(f"event type {event_type!r}")
        self._event_types.add(event_type)

    def judge_events_by(self, jobs: JobKnowledge) -> None:
        """Have events of jobs shown to those alone who may see them, and found by labels.

        Without it no event of a job is shown to a caller who does not see everything.
        """
        self._jobs = jobs

    def job_facts(self, job_id: str) -> JobFacts | None:
        """Return what decides who hears of a job, None if it has to be looked up."""
        return None if self._jobs is None else self._jobs.known(job_id)

    async def find_job_facts(self, job_ids: Sequence[str]) -> Mapping[str, JobFacts]:
        """Return what decides who hears of jobs, by id; those of unknown ones are left out."""
        return {} if self._jobs is None else await self._jobs.find(job_ids)

    def add_health(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """Add the fields that `describe` returns to the hub's health."""
        self._health.append(describe)

    def health(self) -> dict[str, Any]:
        """Return the fields that components add to the hub's health."""
        return {name: value for describe in self._health for name, value in describe().items()}

    def add_limits(self, read: Callable[[], Mapping[str, Any]]) -> None:
        """Tell clients of limits on what they may ask of a component, by the names of its keys."""
        self._limits.append(read)

    def limits(self) -> dict[str, Any]:
        """Return the limits that components told of."""
        return {name: value for read in self._limits for name, value in read().items()}

    def add_metrics(self, read: ReadMetrics) -> None:
        """Add the metrics that `read` returns to those of the hub; it is called at each look."""
        self._metrics.append(read)

    def metrics(self) -> list[Metric]:
        """Return the metrics of every component, as they are now."""
        return [metric for read in self._metrics for metric in read()]

    def explain_missing(self, explain: Callable[[str], str | None]) -> None:
        """Register the function that knows which component would serve a path of the API."""
        self._explain = explain

    def served_by(self, path: str) -> str | None:
        """Return the component that would serve that path if it ran on this hub."""
        return self._explain(path)


def _scopes(scopes: Any) -> str:
    return ", ".join(f"Scope.{scope.name}" for scope in scopes)
