"""Python clients of a hub's API: `Swarm` blocks, `AsyncSwarm` is for asyncio.

>>> from swarm_hub.client import Swarm
>>> with Swarm(url, token) as swarm:
...     swarm.map("primes.wat", range(100), reduce="sum")
25

`SwarmClient` and `BlockingSwarmClient` are their earlier names.
"""

from swarm_hub.client.async_job import AsyncJob
from swarm_hub.client.async_swarm import AsyncSwarm
from swarm_hub.client.blocking import Job, Swarm
from swarm_hub.client.errors import (
    ApiError,
    ClientError,
    JobCancelledError,
    JobFailedError,
    JobTimeoutError,
    UnreachableError,
)
from swarm_hub.client.functions.answers import RemoteError
from swarm_hub.client.functions.executor import SwarmExecutor
from swarm_hub.client.records import (
    Attempt,
    Event,
    Failure,
    Health,
    Invite,
    JobStatus,
    LivingGateway,
    NetworkBan,
    Node,
    NodeShare,
    Progress,
    Record,
    Shard,
    ShardResult,
    WorkerState,
)

SwarmClient = AsyncSwarm
BlockingSwarmClient = Swarm

__all__ = [
    "ApiError",
    "AsyncJob",
    "AsyncSwarm",
    "Attempt",
    "BlockingSwarmClient",
    "ClientError",
    "Event",
    "Failure",
    "Health",
    "Invite",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobStatus",
    "JobTimeoutError",
    "LivingGateway",
    "NetworkBan",
    "Node",
    "NodeShare",
    "Progress",
    "Record",
    "RemoteError",
    "Shard",
    "ShardResult",
    "Swarm",
    "SwarmClient",
    "SwarmExecutor",
    "UnreachableError",
    "WorkerState",
]
