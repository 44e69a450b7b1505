"""Automations: what happens by itself when an event comes or stays away, at a time, at a value."""

from collections.abc import Callable
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.automation.effects import Effects
from swarm_hub.components.automation.engine import Engine
from swarm_hub.components.automation.model import AutomationConfig
from swarm_hub.components.automation.outbox import Outbox
from swarm_hub.components.automation.rendering import Renderer
from swarm_hub.components.automation.runs import Maker
from swarm_hub.components.automation.schema import automations
from swarm_hub.components.automation.views import views
from swarm_hub.components.gateway import JOBS
from swarm_hub.core import Hub, StopStage
from swarm_hub.util.described import described


@described({"type": ["array", "null"], "items": {"type": "object"}})
def _section(value: Any) -> AutomationConfig:
    return automations(value)


# A list has no keys of its own.
_section.schema = vol.Schema({})  # type: ignore[attr-defined]
CONFIG_SCHEMA: Final[Callable[[Any], AutomationConfig]] = _section


class _Reloader:
    """Takes another list while the hub runs; it was checked by the schema."""

    def __init__(self, engine: Engine, effects: Effects) -> None:
        self._engine = engine
        self._effects = effects
        self._prepared: AutomationConfig | None = None

    async def prepare(self, config: AutomationConfig) -> None:
        """Keep the list for `apply`."""
        self._prepared = config

    def apply(self) -> None:
        """Follow it from now on; runs that have begun go on, within what is allowed now."""
        if self._prepared is not None:
            self._effects.allowed = self._prepared.allowed
            self._engine.take(self._prepared)


async def async_setup(hub: Hub, config: AutomationConfig) -> bool:
    """Follow what happens once the gateway has started."""
    renderer = Renderer()
    maker = Maker(hub, renderer)
    engine = Engine(hub, hub.services[JOBS].gateway_id, config, maker)
    effects = Effects(hub, config.allowed)
    outbox = Outbox(hub, effects, lambda: engine.leads)
    engine.on_run(outbox.wake)
    hub.reloaders["automation"] = _Reloader(engine, effects)
    for view in views(hub, engine, maker, outbox):
        hub.endpoints.add_view(view)

    async def start() -> None:
        await engine.start()
        hub.tasks.supervise(engine.follow, "automations")
        hub.tasks.supervise(outbox.work, "outbox of automations")

    hub.on_start(start)
    hub.on_stop(StopStage.INTAKE, "automations", outbox.stop)
    hub.on_stop(StopStage.CLOSE, "automations", engine.settle)
    hub.on_stop(StopStage.CLOSE, "templates of automations", renderer.close)
    return True
