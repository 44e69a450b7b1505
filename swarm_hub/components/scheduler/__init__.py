"""The scheduler: which node gets which items; the choice of strategy is a platform."""

from typing import Final

from swarm_hub.components.scheduler.entries import JobEntry, JobPlan
from swarm_hub.components.scheduler.events import (
    Accepted,
    Event,
    Failed,
    Finished,
    JobAborted,
    JobAdded,
    JobCancelled,
    NodeLost,
    Rejected,
    StandingChanged,
    TimePassed,
)
from swarm_hub.components.scheduler.moves import ImpossibleTransitionError
from swarm_hub.components.scheduler.nodes import JobLimits, NodeChange, NodeEntry
from swarm_hub.components.scheduler.outcome import (
    AssignmentChanged,
    AssignmentOffered,
    JobEnded,
    JobStarted,
    Outcome,
    Send,
    ShardChanged,
    Withdraw,
)
from swarm_hub.components.scheduler.state_machine import StateMachine
from swarm_hub.components.scheduler.strategies.base import Cut, JobView, NodeView, Strategy
from swarm_hub.components.scheduler.votes import SINGLE, Redundancy, Vote, is_trusted
from swarm_hub.components.scheduler.votes import adaptive as adaptive_redundancy
from swarm_hub.core import Hub, HubKey
from swarm_hub.helpers.platforms import Platform, platform_schema

__all__ = [
    "SINGLE",
    "STRATEGY",
    "Accepted",
    "AssignmentChanged",
    "AssignmentOffered",
    "Cut",
    "Event",
    "Failed",
    "Finished",
    "ImpossibleTransitionError",
    "JobAborted",
    "JobAdded",
    "JobCancelled",
    "JobEnded",
    "JobEntry",
    "JobLimits",
    "JobPlan",
    "JobStarted",
    "JobView",
    "NodeChange",
    "NodeEntry",
    "NodeLost",
    "NodeView",
    "Outcome",
    "Redundancy",
    "Rejected",
    "Send",
    "ShardChanged",
    "StandingChanged",
    "StateMachine",
    "Strategy",
    "TimePassed",
    "Vote",
    "Withdraw",
    "adaptive_redundancy",
    "is_trusted",
]

STRATEGY: Final = HubKey[Strategy]("scheduler")

CONFIG_SCHEMA = platform_schema("scheduler", default="adaptive", folder="strategies")


async def async_setup(hub: Hub, config: Platform[Strategy]) -> bool:
    """Offer the chosen strategy to the gateway."""
    hub.services[STRATEGY] = config.create()
    return True
