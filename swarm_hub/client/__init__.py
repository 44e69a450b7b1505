"""Python clients of a hub's API: `SwarmClient` (asyncio) and `BlockingSwarmClient`.

>>> from swarm_hub.client import BlockingSwarmClient
>>> with BlockingSwarmClient(url, token) as swarm:
...     swarm.map("primes.wat", range(100), reduce="sum")
25
"""

from swarm_hub.client.asynchronous import SwarmClient
from swarm_hub.client.blocking import BlockingSwarmClient
from swarm_hub.client.errors import ApiError, ClientError, JobFailedError, UnreachableError

__all__ = [
    "ApiError",
    "BlockingSwarmClient",
    "ClientError",
    "JobFailedError",
    "SwarmClient",
    "UnreachableError",
]
