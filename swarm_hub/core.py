"""The hub: its services, its event bus and its life from start to stop."""

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast, overload

from ulid_transform import ulid_now

from swarm_hub.const import REPAIRS_FILE, STORAGE_DIR, __version__
from swarm_hub.control import ControlCommands
from swarm_hub.endpoints import Endpoints
from swarm_hub.exceptions import ConfigProblem
from swarm_hub.storage import Store
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.clock import Clock
from swarm_hub.util.event_loop import event_loop_name
from swarm_hub.util.process_log import Levels, LoggerConfig
from swarm_hub.watchdog import Watchdog

if TYPE_CHECKING:
    from swarm_hub.exceptions import ConfigProblem
    from swarm_hub.models.reload import KeyValue, Reload
    from swarm_hub.repairs import Repair, Repairs

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")
_E = TypeVar("_E")
_C = TypeVar("_C", contravariant=True)


# No slots: `HubKey[T](…)` sets an attribute, which a slotted frozen dataclass handles wrongly.
@dataclass(frozen=True)
class HubKey(Generic[_T]):
    """The typed name under which a component offers its service."""

    name: str


class Services:
    """What the components offer each other, by typed key."""

    def __init__(self) -> None:
        self._services: dict[HubKey[Any], object] = {}

    def __setitem__(self, key: HubKey[_T], service: _T) -> None:
        self._services[key] = service

    def __getitem__(self, key: HubKey[_T]) -> _T:
        return cast(_T, self._services[key])

    @overload
    def get(self, key: HubKey[_T]) -> _T | None: ...
    @overload
    def get(self, key: HubKey[_T], default: _T) -> _T: ...
    def get(self, key: HubKey[_T], default: _T | None = None) -> _T | None:
        """Return the service, or `default` if no component offers it."""
        return cast(_T | None, self._services.get(key, default))


class EventBus:
    """Typed events: a listener names the class of the events it wants."""

    def __init__(self) -> None:
        self._listeners: dict[type[Any], list[Callable[[Any], None]]] = defaultdict(list)

    def listen(self, kind: type[_E], listener: Callable[[_E], None]) -> Callable[[], None]:
        """Call `listener` for each event of class `kind`; returns a function that stops it."""
        self._listeners[kind].append(listener)

        def remove() -> None:
            self._listeners[kind].remove(listener)

        return remove

    def fire(self, event: object) -> None:
        """Hand `event` to its listeners at once; one that raises is logged, the others follow."""
        for listener in tuple(self._listeners.get(type(event), ())):
            try:
                listener(event)
            except Exception:
                _LOGGER.exception("A listener of %s failed", type(event).__name__)


# A disk that does not write for this long serves nobody.
_WRITER_BOUND_S: Final = 30.0


class Reloader(Protocol[_C]):
    """How a running component takes a new configuration, in two phases.

    Every component prepares before any applies, so that a configuration one of them refuses
    changes nothing anywhere. They do so in the order of their set-up, also those whose keys have
    not changed, as what one does may follow from what another has. Keys that are not reloadable
    have the values from the start.
    """

    async def prepare(self, config: _C) -> None:
        """Prepare everything that may fail, without effect; may be called again instead of apply.

        Raises HubError that says what is wrong.
        """

    def apply(self) -> None:
        """Put what was prepared last in force; may not fail."""


class SimpleReloader(Generic[_C]):
    """A reloader that keeps what was prepared and hands it to a function.

    `check` raises HubError for a configuration that is valid and can't be put in force here.
    """

    def __init__(
        self, apply: Callable[[_C], None], check: Callable[[_C], None] | None = None
    ) -> None:
        self._apply = apply
        self._check = check
        self._prepared: list[_C] = []

    async def prepare(self, config: _C) -> None:
        """Keep the configuration for `apply`."""
        if self._check is not None:
            self._check(config)
        self._prepared = [config]

    def apply(self) -> None:
        """Put it in force."""
        for config in self._prepared:
            self._apply(config)


class LiveConfiguration(Protocol):
    """The configuration of a hub that runs."""

    async def reload(self, by: str) -> "Reload":
        """Put in force what the files say now, as far as that needs no restart.

        `by` is who asked, for the log. Raises ConfigError with every problem; then nothing changed.
        """

    def values(self) -> "list[KeyValue]":
        """Return every value that is in force; secrets are left out."""


class HubState(StrEnum):
    """The stages of the hub's life."""

    STARTING = "starting"
    RUNNING = "running"
    RECOVERY = "recovery"
    STOPPING = "stopping"
    STOPPED = "stopped"


class StopStage(IntEnum):
    """The order in which a hub stops; each stage ends before the next begins."""

    INTAKE = 1  # take no new requests or work
    DRAIN = 2  # hand back or finish what was taken
    DISCONNECT = 3  # leave the mesh, end children
    CLOSE = 4  # last writes


@dataclass(frozen=True, slots=True)
class _StopStep:
    stage: StopStage
    name: str
    work: Callable[[], Awaitable[None]]
    timeout_s: float | Callable[[], float]


@dataclass(frozen=True, slots=True)
class _StartStep:
    domain: str
    work: Callable[[], Awaitable[None]]


class Hub:
    """One running process with its configuration directory."""

    def __init__(self, config_dir: Path, name: str, store: Store, clock: Clock) -> None:
        self.config_dir = config_dir
        self.name = name
        self.store = store
        self.clock = clock
        self.boot_id = ulid_now()
        self._began_at = clock.boottime()
        self.roles: set[str] = set()
        # The domains that are set up, and how long that took.
        self.components: set[str] = set()
        self.set_up_s: dict[str, float] = {}
        # Whether it goes without the components of its owner.
        self.safe_mode = False
        self.bus = EventBus()
        self.services = Services()
        self.endpoints = Endpoints()
        # What the owner may ask of this hub on its own device.
        self.control = ControlCommands()
        self.control.add_status("hub", self._status)
        # Where components take connections, as it is configured.
        self.listens: set[str] = set()
        self.control.add_status("listens", lambda: sorted(self.listens))
        self.control.add_status("set_up_s", lambda: dict(self.set_up_s))
        self.tasks = TaskSupervisor()
        self.watchdog = Watchdog(self.tasks, clock)
        self.watchdog.watch("the store's writer", store.sign, _WRITER_BOUND_S)
        # What each part of the hub finds that a person should do, asked at each look.
        self.repair_sources: list[Callable[[], Iterable[Repair]]] = []
        self.control.add("repairs", self._answer_repairs)
        # What keeps each part of the hub from its work, asked at each look; that costs nothing.
        self.not_ready: list[Callable[[], Iterable[str]]] = []
        # How each component that can do so takes a new configuration, by domain.
        self.reloaders: dict[str, Reloader[Any]] = {}
        # From which level on it logs, and what is configured.
        self.log_levels = Levels()
        self.log_config = LoggerConfig()
        # The keys whose new values wait for a restart.
        self.needs_restart: tuple[str, ...] = ()
        # Made at first use: most hubs run for months without a reload.
        self.live_configuration: Callable[[], LiveConfiguration] | None = None
        self.state = HubState.STARTING
        # The component that is set up now, to which its steps belong.
        self.setting_up = ""
        self._start_steps: list[_StartStep] = []
        self._open_steps: list[_StartStep] = []
        self._stop_steps: list[_StopStep] = []
        self._stop_asked = asyncio.Event()
        # Whether the process goes on with the hub of the configuration as it is by then.
        self.starts_again = False
        # Of a recovery, which leaves nothing behind.
        self.when_stopped: Callable[[], object] = bool
        self.check_configuration: Callable[[], list[ConfigProblem]] = list
        self.exit_code = 0

    @cached_property
    def repairs(self) -> "Repairs":
        """What a person should do about this hub."""
        from swarm_hub.repairs import Repairs, of_clock, of_tasks

        own = (lambda: of_clock(self.clock), lambda: of_tasks(self.tasks.failing()))
        self.repair_sources[:0] = own
        file = self.storage_path(REPAIRS_FILE)
        return Repairs(self.repair_sources, self.watchdog.stuck, self.clock, self.bus.fire, file)

    def storage_path(self, *parts: str) -> Path:
        """Return a path inside the hub's private `.storage` directory."""
        return self.config_dir.joinpath(STORAGE_DIR, *parts)

    def on_start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` once every component is set up, in the order of registration."""
        self._start_steps.append(_StartStep(self.setting_up, work))

    def on_open(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, which lets requests in, once every component has started."""
        self._open_steps.append(_StartStep(self.setting_up, work))

    def on_stop(
        self,
        stage: StopStage,
        name: str,
        work: Callable[[], Awaitable[None]],
        timeout_s: float | Callable[[], float] = 5,
    ) -> None:
        """Run `work` at the stop, in its stage, last registered first, for at most `timeout_s`.

        A function gives the time that counts when the hub stops.
        """
        self._stop_steps.append(_StopStep(stage, name, work, timeout_s))

    async def start(
        self,
        tolerate: Callable[[str, Exception], bool] = lambda _domain, _error: False,
        within_s: Callable[[str], float | None] = lambda _domain: None,
    ) -> None:
        """Run the start steps; the hub is ready when this returns.

        What a step raises is raised from here unless `tolerate` takes it, given whose step it is;
        one that takes longer than `within_s` allows its component raises TimeoutError.
        """
        self.store.on_committed(self.bus.fire)
        self.store.on_own_commit(self.bus.fire)
        self.endpoints.seal()
        for step in (*self._start_steps, *self._open_steps):
            try:
                async with asyncio.timeout(within_s(step.domain)):
                    await step.work()
            except Exception as error:
                if not tolerate(step.domain, error):
                    raise
        self.watchdog.start()
        self.state = HubState.RUNNING

    def ask_to_stop(self, exit_code: int = 0) -> None:
        """Let `wait_stopped` return; the caller of `start` then calls `stop`."""
        self.exit_code = max(self.exit_code, exit_code)
        self._stop_asked.set()

    def start_again(self) -> None:
        """End this recovery, and have the process start the hub that is configured by then."""
        self.starts_again = True
        self.ask_to_stop()

    async def wait_asked_to_stop(self) -> None:
        """Return once `ask_to_stop` has been called."""
        await self._stop_asked.wait()

    async def stop(self) -> None:
        """Stop in stages; a step that fails or takes too long is logged and left behind."""
        if self.state in (HubState.STOPPING, HubState.STOPPED):
            return
        self.state = HubState.STOPPING
        for stage in StopStage:
            if stage is StopStage.CLOSE:
                await self.tasks.stop(timeout_s=3)
            for step in reversed([step for step in self._stop_steps if step.stage is stage]):
                await self._run_stop_step(step)
        await self.store.close()
        self.when_stopped()
        self.state = HubState.STOPPED

    def _status(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": __version__,
            "state": self.state,
            "roles": sorted(self.roles),
            "uptime_s": round(self.clock.boottime() - self._began_at, 1),
            "process_id": os.getpid(),
            "event_loop": event_loop_name(),
        }

    async def _answer_repairs(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do the command `repairs`: fix or ignore one if it is named, then tell of all."""
        repairs = self.repairs
        if "fix" in arguments:
            await repairs.fix(str(arguments["fix"]))
        if "ignore" in arguments:
            await repairs.ignore(str(arguments["ignore"]), True)
        return {"repairs": [each.shape() for each in await repairs.look()]}

    async def _run_stop_step(self, step: _StopStep) -> None:
        timeout_s = step.timeout_s() if callable(step.timeout_s) else step.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await step.work()
        except TimeoutError:
            _LOGGER.warning("Stopping %s took more than %.1f s", step.name, timeout_s)
        except Exception:
            _LOGGER.exception("Stopping %s failed", step.name)
