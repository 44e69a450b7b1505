"""A trio run in a thread of its own, and the two ways between it and the asyncio loop."""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from swarm_hub.exceptions import MeshError
from swarm_hub.util.apart import apart
from swarm_hub.util.thread_names import show_name
from swarm_hub.util.within import within

if TYPE_CHECKING:
    import trio

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_START_LOOK_S: Final = 1.0


class TrioThread:
    """Runs `trio.run(main)` in a thread; bursts cross over with one wake-up each way.

    `main` gets this bridge, calls `ready()` once it serves calls, and returns when
    `stopping` is set. trio is imported in the thread, so that the loop never waits for it.
    """

    def __init__(
        self,
        main: Callable[["TrioThread"], Awaitable[None]],
        on_exit: Callable[[BaseException | None], None],
    ) -> None:
        self._main = main
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="mesh-trio", daemon=True)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._finished = asyncio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self.stopping: trio.Event | None = None
        self._stop_asked = False
        # The last step of the start that was begun, in the words of an error message.
        self._step = "starting its thread"
        self._inbound: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._inbound_scheduled = False
        self._outbound: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._outbound_scheduled = False

    # asyncio side

    async def start(self, stall_s: float) -> None:
        """Start the thread and wait until `main` is ready; raises what `main` raised.

        A slow device gets all the time that it uses: only a start without any progress for
        `stall_s` is given up.
        """
        self._thread.start()
        # In short waits: a process that is frozen meanwhile, as happens on phones, loses only one
        # of them.
        look_s = min(_START_LOOK_S, stall_s)
        seen, idle_s = self._progress(), 0.0
        while idle_s < stall_s:
            await asyncio.wait([self._ready], timeout=look_s)
            if self._ready.done():
                self._ready.result()
                return
            before, seen = seen, self._progress()
            idle_s = idle_s + look_s if seen == before else 0.0
        self._ready.cancel()
        raise MeshError(
            f"the mesh did not start: nothing has happened for {stall_s:.0f} s while it was "
            f"{self._step}"
        )

    def _progress(self) -> tuple[str, int]:
        # Most of the start is imports: about 400 modules, half a second here and a minute on a
        # slow phone. Nobody else imports that much at that time.
        return self._step, len(sys.modules)

    async def stop(self, timeout_s: float) -> bool:
        """Ask `main` to return and wait for the thread; False if it did not end in time."""
        # The thread may not yet be able to take the call; it checks this as soon as it is.
        self._stop_asked = True
        if self._thread.ident is None:
            return True  # It could not even be started.
        self.post(self._request_stop)
        if not await within(timeout_s, self._finished.wait()):
            return False
        # The thread has only its last few instructions left.
        self._thread.join(timeout=1.0)
        return True

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function in the trio thread; calls of one loop iteration share a wake-up."""
        self._outbound.append((function, args))
        if not self._outbound_scheduled:
            self._outbound_scheduled = True
            self._loop.call_soon(self._flush_outbound)

    async def call(self, function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Await an async function of the trio side; cancelling the call cancels it there."""
        if self._token is None or self._finished.is_set():
            raise MeshError("the mesh is not running")
        future: asyncio.Future[_T] = self._loop.create_future()
        call = _Call(self, function, args, future)
        self.post(call.start)
        try:
            return await future
        except asyncio.CancelledError:
            self.post(call.cancel)
            raise

    def _flush_outbound(self) -> None:
        self._outbound_scheduled = False
        if self._token is None:
            self._outbound.clear()
            return
        try:
            self._token.run_sync_soon(self._drain_outbound)
        except RuntimeError:
            # trio.RunFinishedError: the thread has ended, and that has been reported.
            self._outbound.clear()

    def _drain_inbound(self) -> None:
        # Cleared first: whatever is added from here on schedules another drain, so one drain
        # takes only what it found and the loop gets its turn in between.
        self._inbound_scheduled = False
        for _ in range(len(self._inbound)):
            function, args = self._inbound.popleft()
            # It concerns one peer; what the others sent is behind it.
            apart(_LOGGER, "Handling what came over libp2p", function, *args)

    def _exited(self, error: BaseException | None) -> None:
        self._finished.set()
        self._token = None
        if not self._ready.done():
            self._ready.set_exception(error or MeshError("the mesh ended while it was starting"))
            # The caller of start() may have given up waiting.
            self._ready.exception()
            return
        if error is None and not self._stop_asked:
            error = MeshError("its thread has ended by itself")
        self._on_exit(error)

    # trio side

    def begins(self, step: str) -> None:
        """Note what the start does next, which is progress; worded as in "while it was …"."""
        self._step = step

    def ready(self) -> None:
        """Tell `start` that calls are served from now on."""
        self.to_loop(self._set_ready)

    def to_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function on the asyncio loop; a burst of calls shares one wake-up."""
        self._inbound.append((function, args))
        if not self._inbound_scheduled:
            self._inbound_scheduled = True
            self._wake_loop(self._drain_inbound)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> bool:
        """Start a task in the main nursery; its errors must be caught inside.

        Returns False once `main` has returned: then nothing is started any more.
        """
        if self._nursery is None:
            return False
        self._nursery.start_soon(function, *args)
        return True

    def _drain_outbound(self) -> None:
        while self._outbound:
            function, args = self._outbound.popleft()
            apart(_LOGGER, "A call into libp2p's thread", function, *args)

    def _request_stop(self) -> None:
        if self.stopping is not None:
            self.stopping.set()

    def _set_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _wake_loop(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            self._inbound.clear()

    def _run(self) -> None:
        show_name()
        error: BaseException | None = None
        try:
            import trio

            error = trio.run(self._trio_main)
        except Exception as raised:
            error = _innermost(raised)
        except BaseException as raised:
            error = raised
        self._wake_loop(self._drain_inbound)
        self._wake_loop(self._exited, error)

    async def _trio_main(self) -> Exception | None:
        import trio

        error: Exception | None = None
        self.stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._token = trio.lowlevel.current_trio_token()
            if self._stop_asked:
                self.stopping.set()
            try:
                await self._main(self)
            # Returned, not raised, so that it leaves the nursery unchanged, not in a group.
            except Exception as raised:
                error = _innermost(raised)
            # trio runs what was posted to it until the very end, when the nursery is closed.
            self._nursery = None
            nursery.cancel_scope.cancel()
        return error


class _Call:
    """One call from asyncio into trio: its errors go to the caller, never to the nursery."""

    def __init__(
        self,
        bridge: TrioThread,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        future: "asyncio.Future[Any]",
    ) -> None:
        self._bridge = bridge
        self._function = function
        self._args = args
        self._future = future
        self._scope: trio.CancelScope | None = None

    def start(self) -> None:
        import trio

        self._scope = trio.CancelScope()
        if not self._bridge.start_soon(self._run):
            self._bridge.to_loop(self._finish, None, MeshError("the mesh is stopping"))

    def cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self) -> None:
        import trio

        assert self._scope is not None
        result: Any = None
        error: Exception | None = MeshError("the mesh is stopping")
        try:
            with self._scope:
                result = await self._function(*self._args)
                error = None
        except trio.Cancelled:
            raise
        except Exception as raised:
            error = raised
        finally:
            self._bridge.to_loop(self._finish, result, error)

    def _finish(self, result: Any, error: Exception | None) -> None:
        if self._future.done():
            return
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)


def _innermost(error: Exception) -> Exception:
    """The original error, out of the groups that each nursery on the way wraps around it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
