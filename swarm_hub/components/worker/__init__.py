"""The worker: takes assignments onto its disk, runs them and delivers the results until ACKed.

It is long because most of it is the set-up: each part is made here and given the others.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import voluptuous as vol

from swarm_hub.components.mesh import MESH, Capability, Mesh
from swarm_hub.components.runtimes import RUNTIMES
from swarm_hub.components.sandbox import SANDBOX, default_slots
from swarm_hub.components.signer import SIGNER, EnvelopeChannel
from swarm_hub.components.telemetry import TELEMETRY
from swarm_hub.components.worker.assignments import Assignments
from swarm_hub.components.worker.daily_data import DailyData
from swarm_hub.components.worker.deaths import Deaths
from swarm_hub.components.worker.delivery import Delivery
from swarm_hub.components.worker.drain import Drain, WorkerChanged
from swarm_hub.components.worker.executor import Executor
from swarm_hub.components.worker.hours import Hours, hours
from swarm_hub.components.worker.intake import Intake
from swarm_hub.components.worker.memory_share import within_share
from swarm_hub.components.worker.notification import Notification
from swarm_hub.components.worker.outbox import Outbox
from swarm_hub.components.worker.owners_pause import OwnersPause
from swarm_hub.components.worker.power_policy import (
    RESUME_ABOVE_PERCENT,
    OnBattery,
    PowerPolicyConfig,
    PowerPolicyWatch,
)
from swarm_hub.components.worker.views import views
from swarm_hub.components.worker.wake_lock import WakeLock
from swarm_hub.const import __version__
from swarm_hub.core import Hub, SimpleReloader, StopStage
from swarm_hub.exceptions import SetupError
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.features import FEATURES
from swarm_hub.models.messages import GATEWAYS
from swarm_hub.storage import StoreSpace
from swarm_hub.storage.queries import meta
from swarm_hub.util.bounds import shown
from swarm_hub.util.described import stands_for
from swarm_hub.util.device import POWER_SOURCES, is_android, total_memory_bytes
from swarm_hub.util.metrics import gauge

if TYPE_CHECKING:
    from swarm_hub.components.worker.known_gateways import KnownGateways
    from swarm_hub.helpers.obstacles import Obstacle, Site
    from swarm_hub.repairs import Repair

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_DAILY_DATA_MIN_BYTES: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """`worker:`: how much of this device may be used, and when."""

    slots: int | None
    cpu_share_percent: float
    memory_share_percent: float
    charging_only: bool
    plug: frozenset[str] | None
    min_battery_percent: float
    resume_battery_percent: float
    on_battery: OnBattery | None
    battery_unknown: str
    max_temperature_c: float | None
    networks: str
    daily_data_bytes: int | None
    hours: Hours
    pause_above_load: float | None
    idle_for_s: float | None
    notification: bool
    finish_within_s: float
    metered: bool | None
    node_labels: dict[str, str]
    follow_gateways: bool


def _auto(validator: Callable[[Any], _T], expected: str) -> Callable[[Any], _T | None]:
    return vol.Any(vol.All("auto", lambda _auto: None), validator, msg=f"expected {expected}")


def _worker_config(
    *, min_battery_percent: float, resume_battery_percent: float | None, **others: Any
) -> WorkerConfig:
    if resume_battery_percent is None:
        resume_battery_percent = min(100.0, min_battery_percent + RESUME_ABOVE_PERCENT)
    if resume_battery_percent < min_battery_percent:
        raise vol.Invalid(
            f"expected at least min_battery ({min_battery_percent:g}), "
            f"got {resume_battery_percent:g}",
            path=["resume_battery"],
        )
    return WorkerConfig(
        min_battery_percent=min_battery_percent,
        resume_battery_percent=resume_battery_percent,
        **others,
    )


@stands_for(vol.Any("any", [vol.Any(*POWER_SOURCES)]))
def _plug(value: Any) -> frozenset[str] | None:
    if value == "any":
        return None
    expected = f"expected any, or a list of {', '.join(POWER_SOURCES)}"
    if not isinstance(value, list) or not value:
        raise vol.Invalid(f"{expected}, got {shown(value or None)}")
    for each in value:
        if each not in POWER_SOURCES:
            raise vol.Invalid(f"{expected}, got {shown(each)}")
    return frozenset(value)


@stands_for(cv.size)
def _daily_data(value: Any) -> int:
    size_bytes = cv.size(value)
    if size_bytes < _DAILY_DATA_MIN_BYTES:
        raise vol.Invalid("expected at least 10MB: a worker without work moves 9 MB a day")
    return size_bytes


_ON_BATTERY: Final = cv.section(
    {
        cv.Key("slots", default=1, reloadable=True): cv.integer(1, 256),
        cv.Key("min_battery", default=60, reloadable=True): cv.number(0, 100),
    },
    OnBattery,
)


@stands_for(vol.Any(_ON_BATTERY, None))
def _on_battery(value: Any) -> OnBattery | None:
    if value is None or isinstance(value, dict):
        return None if value is None else _ON_BATTERY(value)
    raise vol.Invalid(
        "expected keys and values such as {slots: 1, min_battery: 60}, got " + shown(value)
    )


CONFIG_SCHEMA = cv.section(
    {
        cv.Key("slots", default="auto", reloadable=True): _auto(
            cv.integer(1, 256), "auto or a whole number from 1 to 256"
        ),
        cv.Key("cpu_share", default=100, reloadable=True, field="cpu_share_percent"): cv.number(
            5, 100
        ),
        cv.Key(
            "memory_share", default=50, reloadable=True, field="memory_share_percent"
        ): cv.number(1, 100),
        cv.Key("charging_only", default=True, reloadable=True): cv.boolean,
        cv.Key("plug", default="any", reloadable=True): _plug,
        cv.Key("min_battery", default=90, reloadable=True, field="min_battery_percent"): cv.number(
            0, 100
        ),
        cv.Key(
            "resume_battery", default="auto", reloadable=True, field="resume_battery_percent"
        ): _auto(cv.number(0, 100), "auto or a number from 0 to 100"),
        cv.Key("on_battery", default=None, reloadable=True): _on_battery,
        cv.Key("battery_unknown", default="stop", reloadable=True): cv.one_of("stop", "run"),
        cv.Key(
            "max_temperature", default="auto", reloadable=True, field="max_temperature_c"
        ): _auto(cv.number(-20, 120), "auto or a number from -20 to 120"),
        cv.Key("networks", default="any", reloadable=True): cv.one_of("any", "unmetered"),
        cv.Key("daily_data", default=None, reloadable=True, field="daily_data_bytes"): cv.optional(
            _daily_data
        ),
        cv.Key("hours", default="any", reloadable=True): hours,
        cv.Key("pause_above_load", default=None, reloadable=True): cv.optional(
            cv.number(0.01, 1000)
        ),
        cv.Key("idle_for", default=None, reloadable=True, field="idle_for_s"): cv.optional(
            cv.positive_duration
        ),
        cv.Key("notification", default=True, reloadable=True): cv.boolean,
        cv.Key("finish_within", default=5, reloadable=True, field="finish_within_s"): cv.duration,
        cv.Key("metered", default="auto", reloadable=True): _auto(
            cv.boolean, "auto, true or false"
        ),
        cv.Key("node_labels", default=dict, reloadable=False): cv.labels,
        cv.Key("follow_gateways", default=True, reloadable=False): cv.boolean,
    },
    _worker_config,
)


async def async_setup(hub: Hub, config: WorkerConfig) -> bool:
    """Offer this device's slots to the gateways it trusts."""
    _refuse_shared(hub.store.shared)
    mesh, service, bounds = hub.services[MESH], hub.services[SANDBOX], config
    wanted = config.slots or default_slots()
    service, slots = within_share(
        service, wanted, config.memory_share_percent, total_memory_bytes()
    )
    if slots < wanted:
        _LOGGER.info(
            "Running %d shards at once instead of %d: they may have %g %% of the memory",
            slots, wanted, config.memory_share_percent,
        )  # fmt: skip
    service.sandbox.resize(slots)
    service.sandbox.throttle(config.cpu_share_percent / 100)
    hub.roles.add("worker")
    offer = {
        "slots": slots,
        "memory_bytes": service.limits.memory_bytes,
        "labels": config.node_labels,
        "features": sorted(FEATURES),
        "wall_time_s": service.limits.wall_time_s,
        "version": __version__,
    }
    mesh.register(
        Capability("worker", offer, works_with="gateway", seeks_peers=True, asks_for_express=True)
    )
    telemetry = hub.services[TELEMETRY]
    telemetry.declare_metered(config.metered)
    telemetry.offer_slots(slots)
    channel = hub.services[SIGNER]
    # Set whenever an assignment or a result is done with.
    settled = asyncio.Event()
    assignments = Assignments(hub, channel, settled)
    delivery = Delivery(hub, mesh, channel, settled)
    outbox = Outbox(hub, assignments, delivery)
    deaths = Deaths(hub.storage_path(), asyncio.get_running_loop().call_soon)
    executor = Executor(
        hub, mesh, service, assignments.gateway_of, outbox.finish, assignments.give_back, deaths
    )
    drain = Drain(hub, mesh, channel, assignments, executor, delivery, settled)
    Intake(hub, mesh, channel, assignments, executor, delivery, outbox, drain)
    if config.follow_gateways:
        await _follow_gateways(hub, mesh, channel, drain)
    daily_data = DailyData(hub, lambda: mesh.moved_bytes, config.daily_data_bytes)
    watch = PowerPolicyWatch(
        hub, drain, telemetry, executor, _policy(config), slots, daily_data, config.finish_within_s
    )
    preparation = hub.services[RUNTIMES].preparation
    pause = OwnersPause(hub, drain)
    notification = Notification(hub, drain, lambda: pause.is_paused, lambda: watch.slower)
    hub.control.add("pause", pause.pause)
    hub.control.add("resume", pause.resume)

    def status() -> dict[str, Any]:
        return {
            "running": executor.running(),
            "waiting": len(executor.not_begun()),
            "to_deliver": len(delivery),
            "paused": pause.status(),
            "refuses": drain.refuses,
            "slots": watch.slots,
            "slower": watch.slower,
            "data_today": daily_data.status(),
            "drained_by": drain.drained,
            "runtimes": dict(preparation.states),
        }

    hub.control.add_status("worker", status)
    hub.endpoints.add_metrics(
        lambda: (
            gauge("swarm_hub_worker_running", "Shards that run here.", len(executor.running())),
            gauge("swarm_hub_worker_waiting", "Shards that wait.", len(executor.not_begun())),
            gauge("swarm_hub_worker_to_deliver", "Results to be delivered.", len(delivery)),
            gauge("swarm_hub_worker_takes_work", "Whether it takes work.", not drain.refuses),
        )
    )

    def repairs() -> "Iterable[Repair]":
        from swarm_hub.components.worker.repairs import of_gateways

        return of_gateways(mesh, channel)

    hub.repair_sources.append(repairs)
    if is_android():
        _count_kills(hub)
    for view in views(pause, status):
        hub.endpoints.add_view(view)
    hub.bus.listen(
        StoreSpace, lambda space: drain.refuse("disk", space.full, finishing=not space.spent)
    )

    async def start() -> None:
        await pause.load()
        await daily_data.load()
        # What the last life left: the inbox is run again, the outbox delivered.
        deaths.load()
        executor.put(await assignments.load())
        await delivery.load()
        if assignments or delivery:
            _LOGGER.info(
                "Resuming %d assignments, delivering %d results", len(assignments), len(delivery)
            )
        executor.start(slots)
        outbox.start()
        delivery.start()
        # The first shard should not wait for a child to start.
        hub.tasks.spawn(service.sandbox.warm(), "sandbox warm-up")
        drain.refuse("disk", hub.store.full, finishing=not hub.store.spent)
        watch.start()
        preparation.permit(drain.refuses is None)
        hub.bus.listen(WorkerChanged, lambda _change: preparation.permit(drain.refuses is None))
        WakeLock(hub, executor.until_busy, executor.until_idle).start()
        notification.show(config.notification)

    async def stop() -> None:
        await drain.stop(bounds.finish_within_s)
        outbox.flush()
        deaths.close()
        if bounds.daily_data_bytes is not None:
            await daily_data.keep()

    def apply(new: WorkerConfig) -> None:
        nonlocal bounds
        bounds = new
        # Gateways give out jobs by the memory that they were told.
        limits = replace(hub.services[SANDBOX].limits, memory_bytes=service.limits.memory_bytes)
        bounded, most = within_share(
            replace(hub.services[SANDBOX], limits=limits),
            new.slots or default_slots(), new.memory_share_percent, total_memory_bytes(),
        )  # fmt: skip
        executor.bound(replace(bounded, limits=limits))
        bounded.sandbox.throttle(new.cpu_share_percent / 100)
        telemetry.declare_metered(new.metered)
        daily_data.bound(new.daily_data_bytes)
        drain.trust_changed()
        notification.show(new.notification)
        # What the next gateway is told; the others hear it with the telemetry.
        offer["slots"] = most
        watch.follow(_policy(new), most, new.finish_within_s)

    hub.reloaders["worker"] = SimpleReloader(apply)

    hub.on_start(start)
    hub.on_stop(StopStage.DRAIN, "worker", stop, lambda: bounds.finish_within_s + 4)
    return True


def _policy(config: WorkerConfig) -> PowerPolicyConfig:
    return PowerPolicyConfig(
        charging_only=config.charging_only,
        plug=config.plug,
        min_battery=config.min_battery_percent,
        resume_battery=config.resume_battery_percent,
        on_battery=config.on_battery,
        runs_unread=config.battery_unknown == "run",
        max_temperature=config.max_temperature_c,
        unmetered_only=config.networks == "unmetered",
        daily_data_bytes=config.daily_data_bytes,
        hours=config.hours,
        max_load=config.pause_above_load,
        idle_for_s=config.idle_for_s,
    )


def _count_kills(hub: Hub) -> None:
    """Count how often this hub was killed: a phone does so to save power."""
    from swarm_hub.components.worker.repairs import Kills

    kills = Kills(hub.storage_path())
    hub.repair_sources.append(lambda: kills.repairs(hub.clock.time()))

    async def begin() -> None:
        await asyncio.to_thread(kills.begin, hub.clock.time())

    async def end() -> None:
        await asyncio.to_thread(kills.end)

    hub.on_start(begin)
    hub.on_stop(StopStage.CLOSE, "count of kills", end)


async def _follow_gateways(hub: Hub, mesh: Mesh, channel: EnvelopeChannel, drain: Drain) -> None:
    """Join the gateways that others name; most swarms have one, and load nothing for this."""
    known: KnownGateways | None = None

    def following() -> "KnownGateways":
        nonlocal known
        if known is None:
            from swarm_hub.components.worker.known_gateways import KnownGateways

            known = KnownGateways(hub, mesh, channel, drain.trust_changed)
        return known

    channel.on((GATEWAYS,), lambda batch: following().hear(batch))
    if kept := await hub.store.read(meta.known_gateways):
        following().load(kept)


def preflight(site: "Site", _config: WorkerConfig) -> "Iterator[Obstacle]":
    """Yield what would keep it from taking work."""
    yield from site.refusal(partial(_refuse_shared, site.shared_store))


def _refuse_shared(shared: bool) -> None:
    if shared:
        raise SetupError(
            "a worker keeps what it accepted in a store of its own; give storage: url a SQLite "
            "file, or run the worker as another hub beside this gateway"
        )
