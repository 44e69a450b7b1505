"""Finding peers again: bootnodes forever, peers that a transport saw for a while."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from swarm_hub.components.mesh.peers.presence import SETTLED_S
from swarm_hub.exceptions import MeshError
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.back_off import back_off_s, jittered_s
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

_FIRST_S: Final = 0.25
# Whoever ends a session or a ban tells so; this is for what was missed.
_LOOK_EVERY_S: Final = 60.0
# A bootnode that just went away is usually restarting: ask every second for half a minute.
_SOON_S: Final = 1.0
_SOON_FOR_S: Final = 30.0
_MAX_S: Final = 15.0
# Of each pause, so that a fleet does not redial a restarted hub in step.
_JITTER: Final = (0.5, 1.0)
# One that answers and disconnects again does not want us yet: an approval may be pending.
_REFUSED_S: Final = 5.0
# A hub that left the local network is given up, and counts as new when it is seen again.
_FOUND_FOR_S: Final = 600.0
# Anybody on the local network can announce any number of hubs.
_FOUND_MAX: Final = 16


def by_peer(addresses: Iterable[str]) -> dict[str, list[str]]:
    """Group addresses by the peer that they lead to, keeping their order."""
    groups: dict[str, list[str]] = {}
    for address in addresses:
        groups.setdefault(address.rpartition("/p2p/")[2], []).append(address)
    return groups


class Dials(Protocol):
    """What dials: one transport, or all of them."""

    async def dial(self, address: str) -> str:
        """Open a session, or find the live one; returns the peer id."""


class Redialler:
    """Keeps this hub connected: to every bootnode, and to the hubs of the local network."""

    def __init__(self, tasks: TaskSupervisor, is_wanted: Callable[[str], bool]) -> None:
        self._tasks = tasks
        self._is_wanted = is_wanted
        self._addresses: dict[str, Sequence[str]] = {}
        self._found: set[str] = set()
        self._kept: dict[str, asyncio.Task[None]] = {}
        # What wakes those who wait for a session to end.
        self._lost: dict[str, asyncio.Event] = {}

    def keep(self, transport: Dials, peer_id: str, addresses: Sequence[str]) -> None:
        """Stay connected to a peer, at the first of its addresses that answers."""
        self._addresses[peer_id] = tuple(addresses)
        self._found.discard(peer_id)
        if peer_id in self._kept:
            return

        async def work() -> None:
            await self._keep_connected(transport, peer_id, None)

        self._kept[peer_id] = self._tasks.supervise(work, "bootnode")

    def keep_all(self, transport: Dials, addresses: Mapping[str, Sequence[str]]) -> None:
        """Stay connected to these peers, and dial those no more that were kept before."""
        for peer_id in self._kept.keys() - addresses.keys():
            self._kept.pop(peer_id).cancel()
            del self._addresses[peer_id]
        for peer_id, at in addresses.items():
            self.keep(transport, peer_id, at)

    def found(self, transport: Dials, peer_id: str, addresses: Sequence[str]) -> None:
        """Connect to a peer that a transport saw, and reconnect as long as it is seen."""
        if peer_id in self._found:
            self._addresses[peer_id] = tuple(addresses)
        elif peer_id not in self._addresses and len(self._found) < _FOUND_MAX:
            self._addresses[peer_id] = tuple(addresses)
            self._found.add(peer_id)
            self._tasks.spawn(self._visit(transport, peer_id), "mdns dial")

    def leave(self, peer_id: str) -> None:
        """Give up a peer that a transport saw and that turned out to be of no use."""
        if peer_id in self._found:
            self._found.remove(peer_id)
            del self._addresses[peer_id]
            self.lost(peer_id)

    def lost(self, peer_id: str) -> None:
        """Check a peer at once, because its session or its ban is over."""
        if (lost := self._lost.get(peer_id)) is not None:
            lost.set()

    async def _until_lost(self, peer_id: str) -> None:
        lost = self._lost.setdefault(peer_id, asyncio.Event())
        lost.clear()
        try:
            while not (await within(_LOOK_EVERY_S, lost.wait()) or self._is_wanted(peer_id)):
                pass
        finally:
            self._lost.pop(peer_id, None)

    async def _visit(self, transport: Dials, peer_id: str) -> None:
        try:
            await self._keep_connected(transport, peer_id, _FOUND_FOR_S)
        finally:
            self.leave(peer_id)

    async def _keep_connected(
        self, transport: Dials, peer_id: str, give_up_after_s: float | None
    ) -> None:
        """Dial a peer whenever it is wanted; logs once when it is out of reach."""
        loop = asyncio.get_running_loop()
        backoff_s, lost_at, told = _FIRST_S, loop.time(), False
        up_at: float | None = None
        while peer_id in self._addresses:
            answered = not self._is_wanted(peer_id)
            if not answered:
                reached, problems = await self._dial(transport, peer_id)
                answered = reached is not None
                if not answered and not told:
                    level = logging.WARNING if give_up_after_s is None else logging.DEBUG
                    for address, problem in problems:
                        _LOGGER.log(level, "Can't reach %s yet: %s", address, problem)
                    told = True
                elif answered and told:
                    _LOGGER.info("Reached %s", reached)
                    told = False
            if not self._is_wanted(peer_id):
                up_at = up_at or loop.time()
                await self._until_lost(peer_id)
                if loop.time() - up_at > SETTLED_S:
                    backoff_s, lost_at = _FIRST_S, loop.time()
                await asyncio.sleep(jittered_s(_FIRST_S, *_JITTER))
                continue
            up_at = None
            if give_up_after_s is not None and loop.time() - lost_at > give_up_after_s:
                return
            await asyncio.sleep(jittered_s(backoff_s, *_JITTER))
            soon = loop.time() - lost_at < _SOON_FOR_S
            longest_s = _REFUSED_S if answered else _SOON_S if soon else _MAX_S
            backoff_s = back_off_s(backoff_s, 1, longest_s)

    async def _dial(
        self, transport: Dials, peer_id: str
    ) -> tuple[str | None, list[tuple[str, MeshError]]]:
        """Dial a peer's addresses in turn; returns the one that answered, and why others didn't."""
        problems: list[tuple[str, MeshError]] = []
        for address in self._addresses.get(peer_id, ()):
            try:
                await transport.dial(address)
            except MeshError as error:
                problems.append((address, error))
            else:
                return address, problems
        return None, problems
