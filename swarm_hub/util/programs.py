"""What programs of this device say; one that is slow, mute or talkative does no harm."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from swarm_hub.exceptions import HubError
from swarm_hub.util.back_off import back_off_s
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

OUTPUT_MAX_BYTES: Final = 64 * 1024
WITHIN_S: Final = 10.0
# `termux-battery-status` may take 7 s, and each call wakes an app.
_ASKED_EVERY_S: Final = 60.0
# A few calls in a row may fail before what was said last is no longer believed.
_BELIEVED_FOR_S: Final = 300.0
_END_WITHIN_S: Final = 2.0


async def said_by(
    command: Sequence[str], within_s: float = WITHIN_S, stdin: int = subprocess.DEVNULL
) -> bytes:
    """Run a program and return what it writes to stdout; raises HubError that says what it did.

    It is killed, with all that it started, when it takes longer, says too much or is cancelled.
    """
    name = os.path.basename(command[0])
    process = _start(command, name, stdin)
    assert process.stdout is not None
    # Not asyncio's subprocesses: their pipes may outlive the wait for their end.
    with process.stdout as pipe:
        try:
            async with asyncio.timeout(within_s):
                said = await _read(pipe.fileno(), name)
                status = await _end(process)
        except BaseException as error:
            # With what it started: its group is its own.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await within(_END_WITHIN_S, _end(process))
            if isinstance(error, TimeoutError):
                raise HubError(f"{name} did not answer within {within_s:g} s") from None
            raise
    if status:
        raise HubError(f"{name} ended with {status}")
    return said


class Asked(Generic[_T]):
    """The newest that a program said: asked once a minute at most, believed for five."""

    def __init__(
        self, command: Sequence[str], read: Callable[[bytes], _T], clock: Callable[[], float]
    ) -> None:
        self._command = tuple(command)
        # Raises ValueError or HubError for what it does not understand.
        self._read = read
        self._clock = clock
        self._newest: tuple[float, _T] | None = None
        self._asked_at: float | None = None
        self._asking = False
        self._fails = False

    def newest(self) -> _T | None:
        """Return the last that it said; None if that is too old, or nothing."""
        if self._newest is None or self._clock() - self._newest[0] > _BELIEVED_FOR_S:
            return None
        return self._newest[1]

    async def ask(self) -> bool:
        """Ask it and return whether it answered.

        It is not asked if it is not installed, is being asked, or was asked a moment ago.
        """
        now = self._clock()
        if self._asking or (self._asked_at is not None and now - self._asked_at < _ASKED_EVERY_S):
            return False
        self._asked_at = now
        program = shutil.which(self._command[0])
        if program is None:
            return False
        self._asking = True
        try:
            said = self._read(await said_by((program, *self._command[1:])))
        except (HubError, ValueError) as error:
            self._failed(str(error))
            return False
        finally:
            self._asking = False
        self._newest = self._clock(), said
        if self._fails:
            _LOGGER.info("%s answers again", self._command[0])
            self._fails = False
        return True

    def _failed(self, why: str) -> None:
        if not self._fails:
            _LOGGER.warning("What %s tells is not known: %s", self._command[0], why)
        self._fails = True


def _start(command: Sequence[str], name: str, stdin: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # What programs say to a program is in English.
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise HubError(f"{name} can't be started: {error.strerror}") from error


async def _read(pipe: int, name: str) -> bytes:
    os.set_blocking(pipe, False)
    said = b""
    while True:
        try:
            more = os.read(pipe, OUTPUT_MAX_BYTES)
        except BlockingIOError:
            await _readable(pipe)
            continue
        if not more:
            return said
        said += more
        if len(said) > OUTPUT_MAX_BYTES:
            raise HubError(f"{name} says more than {OUTPUT_MAX_BYTES} bytes")


async def _readable(pipe: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(pipe)


async def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that is about to end and return its exit status."""
    looks = 0
    while (status := process.poll()) is None:
        await asyncio.sleep(back_off_s(0.001, looks, 0.05))
        looks += 1
    return status
