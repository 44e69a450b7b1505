"""The scheduler: which node gets which items; the choice of strategy is a platform."""

from typing import Final

from swarm_hub.components.scheduler.state_machine import (
    AssignmentChanged,
    AssignmentOffered,
    ImpossibleTransitionError,
    JobEnded,
    JobEntry,
    JobPlan,
    JobStarted,
    NodeChange,
    Outcome,
    Send,
    ShardChanged,
    StateMachine,
    Withdraw,
)
from swarm_hub.components.scheduler.strategy import Cut, JobView, NodeView, Strategy
from swarm_hub.core import Hub, HubKey
from swarm_hub.helpers.platforms import Platform, platform_schema

__all__ = [
    "STRATEGY",
    "AssignmentChanged",
    "AssignmentOffered",
    "Cut",
    "ImpossibleTransitionError",
    "JobEnded",
    "JobEntry",
    "JobPlan",
    "JobStarted",
    "JobView",
    "NodeChange",
    "NodeView",
    "Outcome",
    "Send",
    "ShardChanged",
    "StateMachine",
    "Strategy",
    "Withdraw",
]

STRATEGY: Final = HubKey[Strategy]("scheduler")

CONFIG_SCHEMA = platform_schema("scheduler", default="adaptive")


async def async_setup(hub: Hub, config: Platform[Strategy]) -> bool:
    """Offer the chosen strategy to the gateway."""
    hub.services[STRATEGY] = config.create()
    return True
