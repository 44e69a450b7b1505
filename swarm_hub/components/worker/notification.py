"""A notification on a phone: what its worker does, and buttons that pause and resume it."""

import asyncio
import logging
import shlex
import shutil
import sys
from collections.abc import Callable
from typing import Final

from swarm_hub.components.worker.drain import Drain, WorkerChanged
from swarm_hub.core import Hub, StopStage
from swarm_hub.exceptions import HubError
from swarm_hub.util import termux
from swarm_hub.util.programs import said_by

_LOGGER = logging.getLogger(__name__)

_PAUSE_FOR: Final = "2h"
# Each one starts a program and wakes an app.
_APART_S: Final = 5.0
_REMOVE_WITHIN_S: Final = 3.0


class Notification:
    """Shows the newest state, a few seconds apart; nothing where Termux:API is not installed."""

    def __init__(
        self,
        hub: Hub,
        drain: Drain,
        is_paused: Callable[[], bool],
        slower: Callable[[], str | None],
    ) -> None:
        self._hub = hub
        self._drain = drain
        self._is_paused = is_paused
        self._slower = slower
        self._changed = asyncio.Event()
        self._shown: tuple[str, ...] = ()
        self._fails = False
        self._listens = False
        self._showing: asyncio.Task[None] | None = None

    def show(self, wanted: bool) -> None:
        """Show what there is, and whatever changes; or take it away."""
        if not wanted:
            self._end()
        elif self._showing is None and shutil.which(termux.NOTIFY) is not None:
            self._begin()

    def _begin(self) -> None:
        if not self._listens:
            self._listens = True
            self._hub.bus.listen(WorkerChanged, lambda _change: self._changed.set())
            self._hub.on_stop(StopStage.CLOSE, "notification", self._remove, _REMOVE_WITHIN_S + 1)
        self._changed.set()
        self._showing = self._hub.tasks.supervise(self._keep_showing, "notification")

    def _end(self) -> None:
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
            self._hub.tasks.spawn(self._remove(), "removal of the notification")

    async def _keep_showing(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            command = self._command()
            if command != self._shown:
                await self._show(command)
                self._shown = command
                await asyncio.sleep(_APART_S)

    async def _show(self, command: tuple[str, ...]) -> None:
        try:
            await said_by(command)
        except HubError as error:
            if not self._fails:
                _LOGGER.warning("The notification can't be shown: %s", error)
            self._fails = True
        else:
            self._fails = False

    async def _remove(self) -> None:
        shown, self._shown = self._shown, ()
        if shown:
            try:
                await said_by((termux.NOTIFY_REMOVE, self._id), _REMOVE_WITHIN_S)
            except HubError as error:
                _LOGGER.debug("The notification can't be removed: %s", error)

    def _command(self) -> tuple[str, ...]:
        buttons: dict[str, tuple[str, ...]]
        if self._is_paused():
            buttons = {"Resume": ("resume",)}
        else:
            buttons = {"Pause 2 h": ("pause", _PAUSE_FOR), "Pause": ("pause",)}
        return termux.notification(
            self._id,
            f"swarm-hub: {self._hub.name}",
            self._text(),
            {name: self._action(*command) for name, command in buttons.items()},
        )

    def _text(self) -> str:
        if (reason := self._drain.refuses) is not None:
            return f"Takes no work: {reason}"
        if (slower := self._slower()) is not None:
            return f"Works slower: {slower}"
        return "Takes work"

    @property
    def _id(self) -> str:
        return f"swarm-hub {self._hub.name}"

    def _action(self, *command: str) -> str:
        """Return what the shell of Termux runs; this Python may be that of a venv."""
        directory = str(self._hub.config_dir.absolute())
        return shlex.join((sys.executable, "-m", "swarm_hub", *command, "-c", directory))
