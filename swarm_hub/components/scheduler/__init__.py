"""The scheduler: which node gets which items; the choice of strategy is a platform."""

from typing import Final

from swarm_hub.components.scheduler.claims import UNPROVEN_SHARE
from swarm_hub.components.scheduler.eligibility import unfit
from swarm_hub.components.scheduler.entries import WALL_TIME_S, JobEntry, JobPlan
from swarm_hub.components.scheduler.events import (
    Accepted,
    Event,
    Failed,
    Finished,
    JobAborted,
    JobAdded,
    JobCancelled,
    JobChanged,
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
    ItemsFailed,
    JobEnded,
    JobStarted,
    Outcome,
    Preempt,
    Send,
    ShardChanged,
    Withdraw,
)
from swarm_hub.components.scheduler.state_machine import StateMachine
from swarm_hub.components.scheduler.strategies.base import Cut, JobView, NodeView, Strategy
from swarm_hub.components.scheduler.votes import SINGLE, Redundancy, Vote, is_trusted
from swarm_hub.components.scheduler.votes import adaptive as adaptive_redundancy
from swarm_hub.core import Hub, HubKey, SimpleReloader
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.platforms import Platform, platform_schema

__all__ = [
    "SINGLE",
    "STRATEGY",
    "UNPROVEN",
    "WALL_TIME_S",
    "Accepted",
    "AssignmentChanged",
    "AssignmentOffered",
    "Cut",
    "Event",
    "Failed",
    "Finished",
    "ImpossibleTransitionError",
    "ItemsFailed",
    "JobAborted",
    "JobAdded",
    "JobCancelled",
    "JobChanged",
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
    "Preempt",
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
    "unfit",
]

STRATEGY: Final = HubKey[Strategy]("scheduler")
# The share of all slots that modules without a result get at most while others wait.
UNPROVEN: Final = HubKey[float]("unproven_share")

CONFIG_SCHEMA = platform_schema(
    "scheduler",
    default="adaptive",
    folder="strategies",
    keys={cv.Key("unproven_share", default=UNPROVEN_SHARE, reloadable=True): cv.number(0, 1)},
)


async def async_setup(hub: Hub, config: Platform[Strategy]) -> bool:
    """Offer the chosen strategy to the gateway."""

    def apply(chosen: Platform[Strategy]) -> None:
        hub.services[STRATEGY] = chosen.create()
        hub.services[UNPROVEN] = chosen.options["unproven_share"]

    apply(config)
    # The gateway, which is set up after this, takes both from there.
    hub.reloaders["scheduler"] = SimpleReloader(apply, check=lambda new: new.create())
    return True
