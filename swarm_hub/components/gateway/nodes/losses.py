"""How often each node was lost, to tell which flap."""

from collections import OrderedDict, deque
from typing import Final

from swarm_hub.util.clock import Clock

# A node that was lost so often in such a time flaps.
LOSSES: Final = 5
WITHIN_S: Final = 1800.0
_NODES_MAX: Final = 1000


class Losses:
    """When each node was lost last, in memory: who flaps will do so again after a restart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # With the name that it had.
        self._lost: OrderedDict[str, tuple[str, deque[float]]] = OrderedDict()

    def lost(self, node_id: str, name: str) -> None:
        """Note that a node was lost just now."""
        _, times = self._lost.pop(node_id, ("", deque[float](maxlen=LOSSES)))
        times.append(self._clock.monotonic())
        self._lost[node_id] = name, times
        if len(self._lost) > _NODES_MAX:
            self._lost.popitem(last=False)

    def flapping(self) -> list[tuple[str, str]]:
        """Return the nodes that were lost too often, with their names."""
        since = self._clock.monotonic() - WITHIN_S
        return [
            (node_id, name)
            for node_id, (name, times) in self._lost.items()
            if len(times) == LOSSES and times[0] > since
        ]
