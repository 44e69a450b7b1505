"""A thread with an event loop of its own, for calls that block.

So they work beside a loop that runs already, as in a notebook, and from several threads at once.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from weakref import WeakSet

_T = TypeVar("_T")

_END_WITHIN_S: Final = 10.0


class BackgroundLoop:
    """An event loop in a thread, started by the first work and ended by `stop`, to start anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        _ALL.add(self)

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Have something done there."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def run(self, work: Coroutine[Any, Any, _T], calls: "SimpleQueue[Any] | None" = None) -> _T:
        """Do something there and return what it gives.

        What is put into `calls` meanwhile is called here, in the thread of who waits.
        """
        if self.is_here():
            work.close()
            raise RuntimeError("a blocking call within the loop that serves it would wait for ever")
        future = self.start(work)
        try:
            if calls is not None:
                future.add_done_callback(lambda _: calls.put(None))
                while (call := calls.get()) is not None:
                    call()
            return future.result()
        except BaseException:
            # Such as KeyboardInterrupt: nobody waits for it any more.
            future.cancel()
            raise

    @property
    def is_started(self) -> bool:
        """Whether there is such a thread."""
        return self._loop is not None

    def is_here(self) -> bool:
        """Whether this is called in that thread."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Cancel what is still done there, and end the thread."""
        with self._lock:
            loop, thread, stopping = self._loop, self._thread, self._stopping
            self._loop = self._thread = self._stopping = None
        if loop is None or thread is None or stopping is None or not thread.is_alive():
            return
        loop.call_soon_threadsafe(stopping.set)
        # Garbage is collected in any thread.
        if thread is not threading.current_thread():
            thread.join(_END_WITHIN_S)

    def forget(self) -> None:
        """Leave the thread to the process that this one was forked from."""
        # What belongs to that loop must not be closed here: the kernel would tell it of the other.
        _OF_PARENTS.append((self._loop, self._thread, self._stopping))
        self._lock = threading.Lock()
        self._loop = self._thread = self._stopping = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
                self._thread = threading.Thread(
                    target=_serve, args=(ready,), name="swarm_hub client", daemon=True
                )
                self._thread.start()
                self._loop, self._stopping = ready.result()
            return self._loop


_ALL: "WeakSet[BackgroundLoop]" = WeakSet()
_OF_PARENTS: list[Any] = []


def _serve(ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    async def serve() -> None:
        stopping = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stopping))
        await stopping.wait()

    # At its end it cancels what is left, and closes the sessions.
    asyncio.run(serve())


def _after_fork() -> None:
    for each in list(_ALL):
        each.forget()


os.register_at_fork(after_in_child=_after_fork)
