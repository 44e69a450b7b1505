"""Does what the runs in the store are to do, step by step, until it is done or given up.

A step is done again if the hub is killed before that it was done is on disk: job submissions have a
key under which they count once, webhooks tell theirs.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from swarm_hub.components.automation.effects import Effects
from swarm_hub.components.automation.runs import DONE, FAILED
from swarm_hub.components.automation.webhook import TryAgain
from swarm_hub.core import Hub
from swarm_hub.exceptions import PASSING_ERRORS, HubError
from swarm_hub.models.event import NewEvent
from swarm_hub.storage.queries import automations as queries
from swarm_hub.storage.queries.automations import OPEN, Run
from swarm_hub.util.back_off import back_off_s
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

_AT_ONCE: Final = 8
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 3600.0
GIVEN_UP_AFTER_S: Final = 86_400.0
_LOOK_EVERY_S: Final = 5.0
_SAID_CHARS: Final = 500


class Outbox:
    """Takes due runs from the store, a few at a time."""

    def __init__(self, hub: Hub, effects: Effects, leads: Callable[[], bool]) -> None:
        self._hub = hub
        self._effects = effects
        self._leads = leads
        self._sign = asyncio.Event()
        self._busy: set[tuple[str, str]] = set()
        self._stopping = False

    def wake(self) -> None:
        """Look for due runs."""
        self._sign.set()

    async def work(self) -> None:
        """Do what is due, whenever something is."""
        while True:
            self._sign.clear()
            left_s: float | None = _LOOK_EVERY_S
            if self._leads() and not self._stopping:
                try:
                    left_s = await self._look()
                except PASSING_ERRORS as error:
                    _LOGGER.debug("Runs of automations are looked for later: %s", error)
            await within(left_s, self._sign.wait())

    async def stop(self) -> None:
        """Begin nothing more; what is under way is done again after the next start."""
        self._stopping = True

    async def _look(self) -> float | None:
        """Begin with what is due; returns in how many seconds to look again."""
        store, now = self._hub.store, self._hub.clock.time()
        for run in await store.read(queries.due, now, _AT_ONCE + len(self._busy)):
            name = run.automation, run.id
            if name not in self._busy and len(self._busy) < _AT_ONCE:
                self._busy.add(name)
                self._hub.tasks.spawn(self._do(run), f"automation {run.automation}")
        if store.shared:
            return _LOOK_EVERY_S
        coming = await store.read(queries.next_due, now)
        # Not in one go: what sleeps does not count the time that the device slept.
        return None if coming is None else max(0.01, min(coming - now, _LOOK_EVERY_S))

    async def _do(self, run: Run) -> None:
        try:
            await self._steps(run)
        except PASSING_ERRORS as error:
            _LOGGER.debug("A run of %s goes on later: %s", run.automation, error)
            await asyncio.sleep(_FIRST_PAUSE_S)
        finally:
            self._busy.discard((run.automation, run.id))
            self._sign.set()

    async def _steps(self, run: Run) -> None:
        steps: list[dict[str, Any]] = [dict(step) for step in run.body["steps"]]
        for number, step in enumerate(steps):
            if step["state"] == DONE:
                continue
            events: list[NewEvent] = []
            state, next_at = OPEN, run.next_at
            try:
                said, events = await self._effects.do(run, number)
                step["state"] = DONE
            except TryAgain as error:
                said = str(error)
                step["tries"] += 1
                now = self._hub.clock.time()
                pause_s = back_off_s(_FIRST_PAUSE_S, step["tries"] - 1, _LONGEST_PAUSE_S)
                next_at = now + pause_s
                if now - run.created_at >= GIVEN_UP_AFTER_S:
                    step["state"] = state = FAILED
                    said = f"given up after a day: {said}"
                elif step["tries"] == 1:
                    _LOGGER.info("%s: %s; it is tried again", run.automation, said)
            except HubError as error:
                step["state"] = state = FAILED
                said = str(error)
            except Exception as error:
                # A fault of one action must not have it tried without end, nor stop the others.
                _LOGGER.exception("%s: %s broke", run.automation, step["kind"])
                step["state"] = state = FAILED
                said = f"it broke: {type(error).__name__}: {error}"
            step["said"] = said[:_SAID_CHARS]
            if state == FAILED:
                _LOGGER.warning("%s: %s failed: %s", run.automation, step["kind"], step["said"])
            elif all(each["state"] == DONE for each in steps):
                state = DONE
                _LOGGER.info("%s: %s", run.automation, "; ".join(each["said"] for each in steps))
            if state != OPEN:
                # What is left is a trace; what was sent may be secret.
                steps = [{**each, "content": None} for each in steps]
            run = replace(run, state=state, next_at=next_at, body={**run.body, "steps": steps})
            await self._hub.store.commit([queries.save(run)], events)
            if state != OPEN:
                await self._hub.store.change(queries.prune, run.automation)
            if step["state"] != DONE:
                return
