"""Finding peers again: bootnodes are kept, what mDNS saw is tried once."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from swarm_hub.components.mesh.transport import Transport
from swarm_hub.exceptions import MeshError

_LOGGER = logging.getLogger(__name__)

_FIRST_S: Final = 0.25
# A bootnode that just went away is usually restarting: ask every second for half a minute.
_SOON_S: Final = 1.0
_SOON_FOR_S: Final = 30.0
_MAX_S: Final = 15.0


async def keep_connected(
    transport: Transport, address: str, is_wanted: Callable[[str], bool]
) -> None:
    """Dial `address` for ever whenever `is_wanted(peer id)`; says once when it is out of reach."""
    peer_id = address.rpartition("/p2p/")[2]
    loop = asyncio.get_running_loop()
    backoff_s, lost_at, told = _FIRST_S, loop.time(), False
    while True:
        if is_wanted(peer_id):
            try:
                await transport.dial(address)
            except MeshError as error:
                if not told:
                    _LOGGER.warning("Can't reach %s yet: %s", address, error)
                    told = True
        if not is_wanted(peer_id):
            if told:
                _LOGGER.info("Reached %s", address)
            backoff_s, lost_at, told = _FIRST_S, loop.time(), False
            await asyncio.sleep(_FIRST_S)
            continue
        # Jitter keeps a fleet from redialling a restarted gateway in step.
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311
        soon = loop.time() - lost_at < _SOON_FOR_S
        backoff_s = min(backoff_s * 2, _SOON_S if soon else _MAX_S)


async def dial_any(transport: Transport, addresses: Sequence[str]) -> None:
    """Dial the first of a peer's addresses that answers."""
    for address in addresses:
        try:
            await transport.dial(address)
        except MeshError as error:
            _LOGGER.debug("Can't reach %s, seen on the local network: %s", address, error)
        else:
            return
