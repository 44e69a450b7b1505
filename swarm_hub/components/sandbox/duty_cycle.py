"""A share of the CPU: the children are stopped for a part of each second."""

import asyncio
from collections.abc import Iterable
from typing import Final

from .protocol import ChildLink

_PERIOD_S: Final = 1.0


async def keep(children: Iterable[ChildLink], share: float) -> None:
    """Let the children run for that share of the time, until it is cancelled."""
    while True:
        await asyncio.sleep(_PERIOD_S * share)
        # All that are ready, lest one of them begins a shard meanwhile.
        frozen = [child for child in children if child.queued and child.freeze()]
        if not frozen:
            continue
        frozen += [child for child in children if child.idle and child.freeze()]
        try:
            await asyncio.sleep(_PERIOD_S * (1 - share))
        finally:
            for child in frozen:
                child.thaw()
