"""The life of the children: started with a back-off, reaped when lost, stopped when surplus."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from swarm_hub.exceptions import SetupError
from swarm_hub.util.back_off import back_off_s
from swarm_hub.util.within import within

from .call import CHILD_DIED, OK
from .child.workspace import remove_tree
from .fence import Fence, parse_fence
from .launch import check_abis, launch, wasmtime_directory
from .native import Spawn
from .protocol import ChildLink, Owner
from .request import STOPPED, Answer

_LOGGER = logging.getLogger(__name__)

_STOP_S = 2.0
_SPARE_IDLE_S = 60.0
_TICK_S = 0.001
# A child that ends before it is ready is started again after a growing pause, and after a few in a
# row those who wait for one are told.
_FAILURES_MAX = 3
_PAUSE_S = 0.2
_PAUSE_MAX_S = 30.0


class ChildPool:
    """Owns the child processes of a sandbox."""

    def __init__(
        self,
        owner: Owner,
        *,
        cwd: Path,
        slots: int,
        spawn: Spawn,
        wake: Callable[[], None],
        give_up: Callable[[str], None],
        spare_idle_s: float = _SPARE_IDLE_S,
    ) -> None:
        self.children: list[ChildLink] = []
        self.restarts = 0
        # As reported by the child that started last; None before the first.
        self.fence: Fence | None = None
        self._owner = owner
        self._cwd = cwd
        self._site = ""
        self._abis: list[str] = []
        self._slots = slots
        self._spawn = spawn
        self._wake = wake
        self._give_up = give_up
        self._spare_idle_s = spare_idle_s
        self._dying: set[ChildLink] = set()
        # The surplus children whose rest is being watched.
        self._watched: set[ChildLink] = set()
        self._failures = 0
        self._not_before_s = 0.0

    async def open(self) -> None:
        """Find wasmtime and make an empty directory for the children; raises SetupError."""
        self._site = wasmtime_directory()
        await asyncio.to_thread(_make_empty, self._cwd)

    async def add_abi(self, path: Path) -> None:
        """See `Sandbox.add_abi`."""
        abis = [*self._abis, str(path)]
        problem = await asyncio.to_thread(check_abis, wasmtime_directory(), abis)
        if problem is not None:
            raise SetupError(f"{path}: can't be used as an abi: {problem}")
        self._abis = abis

    def resize(self, slots: int) -> None:
        """Keep that many children."""
        self._slots = slots
        for child in self.children:
            self.resting(child)

    def start(self, *, spare: bool) -> asyncio.Task[None] | None:
        """Start a child; None while starting pauses after failures."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before_s:
            return None
        try:
            launched = launch(self._cwd, self._site, self._abis)
        except OSError as err:
            self._failed(str(err))
            return None
        child = ChildLink(self._owner, launched, loop, spare=spare)
        self.children.append(child)
        for each in self.children:
            # Those at rest may have become too many.
            self.resting(each)
        return self._spawn(self._connect(child), f"sandbox: start child {child.pid}")

    def lost(self, child: ChildLink) -> None:
        """Wait for a lost child's end, in the background."""
        if child in self.children:
            self.children.remove(child)
        self._dying.add(child)
        self._spawn(self._bury(child), f"sandbox: bury child {child.pid}")

    def resting(self, child: ChildLink) -> None:
        """Stop a surplus child once it has been idle for a while."""
        if child.idle and self._is_surplus(child) and child not in self._watched:
            self._watched.add(child)
            child.loop.call_at(child.idle_since_s + self._spare_idle_s, self._rested, child)

    def retire(self, child: ChildLink) -> None:
        """End a child that has nothing to do."""
        child.spare = True
        child.kill(Answer(CHILD_DIED, "The sandbox process was no longer needed"))

    async def stop(self) -> None:
        """Kill all children and wait for their end, at most 2 s."""
        for child in tuple(self.children):
            child.kill(Answer(STOPPED, "The sandbox is stopping"))
        # The background burials may have been cancelled already, so bury here too.
        burials = (self._bury(child) for child in tuple(self._dying))
        await within(_STOP_S, asyncio.gather(*burials))

    async def _connect(self, child: ChildLink) -> None:
        answer = await child.connect()
        if answer.code == OK:
            self._failures = 0
            self._note_fence(child, answer)
            child.ready = True
            self._owner.child_answered(child)
        elif answer.code == CHILD_DIED:
            self._failed(answer.text)

    def _note_fence(self, child: ChildLink, answer: Answer) -> None:
        try:
            fence = parse_fence(answer.body)
        except ValueError as err:
            # No module was in it yet, so the fault is ours and no reason to refuse work.
            _LOGGER.error("Sandbox child %d began with %s", child.pid, err)
            return
        if fence.absent and fence != self.fence:
            _LOGGER.warning("The sandbox runs with fewer walls than it could have: %s", fence)
        self.fence = fence

    def _failed(self, why: str) -> None:
        self._failures += 1
        pause_s = back_off_s(_PAUSE_S, self._failures, _PAUSE_MAX_S)
        loop = asyncio.get_running_loop()
        self._not_before_s = loop.time() + pause_s
        if self._failures == 1:
            _LOGGER.warning("A sandbox child does not start: %s", why)
        if self._failures >= _FAILURES_MAX:
            self._give_up(f"The sandbox process does not start: {why}")
        # A little after the pause, as timers may fire early by the clock's resolution.
        loop.call_later(pause_s + 0.01, self._wake)

    async def _bury(self, child: ChildLink) -> None:
        await child.bury()
        self._dying.discard(child)

    def _is_surplus(self, child: ChildLink) -> bool:
        return child.spare or len(self.children) > self._slots

    def _rested(self, child: ChildLink) -> None:
        self._watched.discard(child)
        if not (child.idle and self._is_surplus(child)):
            return
        # Timers may fire early by the clock's resolution.
        if child.loop.time() - child.idle_since_s >= self._spare_idle_s - _TICK_S:
            self.retire(child)
        else:
            self.resting(child)


def _make_empty(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in directory.iterdir():
        if path.is_dir():
            remove_tree(str(path))
        else:
            path.unlink()
