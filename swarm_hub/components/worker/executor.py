"""Where accepted shards are run: a queue, its runners, and the removal of what is in it."""

import asyncio
import dataclasses
import functools
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

from swarm_hub.components.mesh import Mesh
from swarm_hub.components.sandbox import (
    PREEMPTED,
    Call,
    CallResult,
    SandboxError,
    SandboxService,
)
from swarm_hub.components.worker.alone import AloneOrTogether
from swarm_hub.components.worker.deaths import GIVEN_UP, Deaths
from swarm_hub.components.worker.turns import TurnQueue
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, MeshError
from swarm_hub.models import features, messages
from swarm_hub.models.call import SCRIPT_BYTES_MAX, ModuleCall, Script
from swarm_hub.models.shard import job_of, seed_of
from swarm_hub.storage.queries.inbox import InboxEntry

_LOGGER = logging.getLogger(__name__)

# Enough callers waiting at the sandbox that it can hand small shards to a child in batches.
_RUNNERS_PER_SLOT: Final = 16
_SCRIPTS_KEPT: Final = 4

_Finished = Callable[[InboxEntry, CallResult], Awaitable[None]]
_GivenUp = Callable[[InboxEntry, str], None]


class Executor:
    """Runs shards in turns of their owners, each owner's in the order they came.

    `finished` gets each outcome, `given_up` each shard that can't be run here and why; `gateway_of`
    says whom to ask for an input or a module.
    """

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        service: SandboxService,
        gateway_of: Callable[[InboxEntry], str],
        finished: _Finished,
        given_up: _GivenUp,
        deaths: Deaths,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._service = service
        self._gateway_of = gateway_of
        self._finished = finished
        self._given_up = given_up
        self._deaths = deaths
        # Not before: what waits in a child behind another must not be blamed for a death.
        service.sandbox.on_begun(deaths.begun)
        self._company = AloneOrTogether()
        # The shards of a job share one call text; it is parsed once for all of them.
        self._parsed = functools.lru_cache(maxsize=64)(self._parse)
        self._scripts: dict[str, bytes] = {}
        self._fetching = asyncio.Lock()
        self._queue = TurnQueue(self._scope, hub.clock.monotonic)
        self._running: dict[str, asyncio.Task[Any]] = {}
        # Those whose outcome is known; they only have to be stored.
        self._computed: set[str] = set()
        # Those that runs were cancelled of, and of these the ones that are not queued again.
        self._withdrawn: set[str] = set()
        self._taken: set[str] = set()
        # Set while anything may be begun.
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = asyncio.Event()
        self._n_runners = 0

    def start(self, slots: int) -> None:
        """Start the runners, or those that are lacking for more slots."""
        most = slots * _RUNNERS_PER_SLOT
        for number in range(self._n_runners, most):
            self._hub.tasks.supervise(self._run_queue, f"runner {number}")
        self._n_runners = max(self._n_runners, most)

    def bound(self, service: SandboxService) -> None:
        """Run the shards that have not begun within these bounds."""
        self._service = service
        self._parsed.cache_clear()

    def limit(self, slots: int) -> None:
        """Run at most so many shards at once from now on; those that run are finished."""
        self._service.sandbox.resize(slots)

    def put(self, entries: Iterable[InboxEntry]) -> None:
        """Queue assignments to be run."""
        for entry in entries:
            self._queue.put_nowait(entry)

    def not_begun(self) -> list[str]:
        """Return the assignments that wait for their turn, here or in the sandbox."""
        begun = self._service.sandbox.begun() | self._computed
        return [
            *self._queued(),
            *(assignment_id for assignment_id in self._running if assignment_id not in begun),
        ]

    def unfinished(self) -> list[str]:
        """Return the assignments that wait or run, without those whose outcome is known."""
        running = (
            assignment_id for assignment_id in self._running if assignment_id not in self._computed
        )
        return [*self._queued(), *running]

    def take_off(self, assignment_ids: Collection[str]) -> None:
        """Take assignments off the queue; one that has begun is stopped."""
        wanted = frozenset(assignment_ids)
        self.put([each for each in self._emptied() if each.assignment_id not in wanted])
        for assignment_id in wanted & self._running.keys():
            self._taken.add(assignment_id)
            self._withdraw(assignment_id)

    def hold(self) -> None:
        """Begin nothing more, and stop what runs; it waits in the queue for `release`."""
        self._open.clear()
        for assignment_id in self._running.keys() - self._computed:
            self._withdraw(assignment_id)

    def release(self) -> None:
        """Run what waits again."""
        self._open.set()

    def running(self) -> list[str]:
        """Return the assignments that a child has begun."""
        return sorted(self._service.sandbox.begun() & self._running.keys())

    def preempt(self, assignment_ids: Iterable[str]) -> None:
        """Have assignments that a child has begun give way to others."""
        for assignment_id in assignment_ids:
            self._service.sandbox.preempt(assignment_id)

    async def until_idle(self) -> None:
        """Return when nothing runs."""
        await self._idle.wait()

    async def until_busy(self) -> None:
        """Return when something runs, or is fetched to be run."""
        await self._busy.wait()

    def _withdraw(self, assignment_id: str) -> None:
        # A second cancellation would end the runner.
        if assignment_id not in self._withdrawn:
            self._withdrawn.add(assignment_id)
            self._running[assignment_id].cancel()

    def _queued(self) -> list[str]:
        entries = self._emptied()
        self.put(entries)
        return [entry.assignment_id for entry in entries]

    def _emptied(self) -> list[InboxEntry]:
        """Take everything off the queue, in order."""
        found = []
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        return found

    async def _run_queue(self) -> None:
        runner = asyncio.current_task()
        assert runner is not None
        while True:
            await self._open.wait()
            entry = await self._queue.get()
            if not self._open.is_set():
                self._queue.put_nowait(entry)
                continue
            assignment_id = entry.assignment_id
            self._running[assignment_id] = runner
            self._idle.clear()
            self._busy.set()
            try:
                if self._deaths.is_given_up(assignment_id):
                    await self._finished(entry, GIVEN_UP)
                elif self._deaths.runs_alone(assignment_id):
                    await self._run_alone(entry)
                else:
                    await self._run_beside_others(entry)
            except Exception as error:
                # Our own fault: the gateway must hear of it, or this shard's job would never end.
                _LOGGER.exception("Assignment %s could not be run", assignment_id)
                self._given_up(entry, f"this worker has a fault: {error!r}")
            except asyncio.CancelledError:
                if assignment_id not in self._withdrawn:
                    raise
                # Only this assignment was withdrawn; the runner continues with the next.
                runner.uncancel()
                if assignment_id not in self._taken:
                    self._queue.put_nowait(entry)
            finally:
                self._deaths.ended(assignment_id)
                del self._running[assignment_id]
                self._taken.discard(assignment_id)
                self._withdrawn.discard(assignment_id)
                self._computed.discard(assignment_id)
                if not self._running:
                    self._idle.set()
                    self._busy.clear()

    async def _run_beside_others(self, entry: InboxEntry) -> None:
        await self._company.enter()
        try:
            await self._run(entry)
        finally:
            self._company.leave()

    async def _run_alone(self, entry: InboxEntry) -> None:
        """Run a shard with nothing beside it, since it may be what the hub dies of."""
        async with self._company.alone():
            await self._run(entry)

    async def _run(self, entry: InboxEntry) -> None:
        try:
            call, module_bytes = await self._call(entry)
            data = entry.input
            if data is None:
                data = await self._mesh.fetch(
                    self._gateway_of(entry), entry.input_sha, entry.size_bytes
                )
            if call.argument:
                call, data = call.given(data), b""
        except MeshError as error:
            self._given_up(entry, f"its input or script could not be fetched: {error}")
            return
        except HubError as error:
            self._given_up(entry, str(error))
            return

        async def load_wasm() -> bytes:
            return await self._module(self._gateway_of(entry), call.module_sha, module_bytes)

        try:
            outcome = await self._service.sandbox.run(
                call,
                data,
                load_wasm,
                tag=entry.assignment_id,
                module_bytes=module_bytes,
                seed=seed_of(entry.assignment_id),
            )
            self._computed.add(entry.assignment_id)
            self._deaths.survived(entry.assignment_id)
            await self._finished(entry, outcome)
        except SandboxError as error:
            why = messages.GAVE_WAY if error.code == PREEMPTED else "it could not be run"
            self._given_up(entry, f"{why}: {error}")
        except (HubError, OSError) as error:
            # The module can't be fetched or read, or the disk is full.
            self._given_up(entry, f"it could not be run: {error}")

    async def _call(self, entry: InboxEntry) -> tuple[Call, int]:
        """Return how to call the module, with the script it interprets, and the module's size."""
        call, script, module_bytes = self._parsed(*self._named(entry))
        if script is not None:
            body = await self._script(self._gateway_of(entry), script)
            call = dataclasses.replace(call, script=(script.name, body))
        return call, module_bytes

    async def _script(self, gateway: str, script: Script) -> bytes:
        """Return a script, fetched once however many runners ask for it."""
        async with self._fetching:
            body = self._scripts.get(script.sha)
            if body is None:
                if script.size_bytes > SCRIPT_BYTES_MAX:
                    raise MeshError(f"the script is larger than {SCRIPT_BYTES_MAX} bytes")
                body = await self._blob(gateway, script.sha, script.size_bytes)
                self._scripts[script.sha] = body
                if len(self._scripts) > _SCRIPTS_KEPT:
                    del self._scripts[next(iter(self._scripts))]
        return body

    def _scope(self, entry: InboxEntry) -> str:
        """Return whose turn a shard is run in."""
        gateway = self._gateway_of(entry)
        try:
            call, *_ = self._parsed(*self._named(entry))
        except (HubError, LookupError, TypeError, ValueError):
            # Whoever runs it will find out too, and give it back.
            return gateway
        return gateway if call.scope is None else call.scope

    def _named(self, entry: InboxEntry) -> tuple[str, str, str]:
        """Return what `_parse` needs of a shard; the same for all shards of a job."""
        return entry.call, self._gateway_of(entry), job_of(entry.assignment_id)

    def _parse(self, text: str, gateway: str, job_id: str) -> tuple[Call, Script | None, int]:
        """Return a stored call within this worker's limits, its script, the module's size.

        Raises HubError for one that needs what this worker lacks.
        """
        plain = json.loads(text)
        asked = ModuleCall.from_plain(plain["call"])
        if unknown := features.unknown(asked.needs):
            # A newer version accepted it before this one was installed.
            raise HubError(features.why_not(unknown))
        return self._service.bounded(asked, gateway, job_id), asked.script, plain["module_bytes"]

    async def _module(self, gateway: str, sha: str, size_bytes: int) -> bytes:
        """Return a module's bytes."""
        if size_bytes > self._service.module_bytes_max:
            raise MeshError(f"the module is larger than {self._service.module_bytes_max} bytes")
        return await self._blob(gateway, sha, size_bytes)

    async def _blob(self, gateway: str, sha: str, size_bytes: int) -> bytes:
        """Return bytes by their hash, fetched once and kept as a cache."""
        if (known := await self._hub.store.blobs.get(sha)) is not None:
            return known
        body = await self._mesh.fetch(gateway, sha, size_bytes)
        _, row = await self._hub.store.blobs.put(body, self._hub.clock.time(), durable=False)
        await self._hub.store.commit([row])
        return body
