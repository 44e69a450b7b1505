"""A worker gets ready for the runtimes that its gateways offer: fetched and compiled before a job.

A compilation takes 6 s of CPU time on a desktop and far longer on a phone, so no shard waits for
it. What it is on is told to the gateways, which give a node shards of a runtime once it is ready.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarm_hub.components.mesh import Hello, Mesh, PeerUp
from swarm_hub.components.sandbox import Sandbox, SandboxError
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.components.telemetry import TelemetryBoard
from swarm_hub.core import Hub
from swarm_hub.exceptions import MeshError
from swarm_hub.models.node import PARTLY_READY, READY, RUNTIMES_MAX
from swarm_hub.util.bounds import is_int, is_text
from swarm_hub.util.hashing import SHA256_HEX
from swarm_hub.util.units import format_size

_LOGGER = logging.getLogger(__name__)

_NAME_MAX_CHARS: Final = 32
_SAID_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Offered:
    """A runtime that a gateway offers."""

    name: str
    sha: str
    size_bytes: int
    memory_bytes: int


class Preparation:
    """Prepares one runtime after the other, while the device may work."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        channel: EnvelopeChannel,
        telemetry: TelemetryBoard,
        sandbox: Sandbox,
        module_bytes_max: int,
        memory_bytes: int,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._telemetry = telemetry
        self._sandbox = sandbox
        self._module_bytes_max = module_bytes_max
        self._memory_bytes = memory_bytes
        self._states: dict[str, str] = {}
        # What is to be prepared, and whom to ask for it.
        self._wanted: dict[str, tuple[Offered, str]] = {}
        self._permitted = False
        self._working: asyncio.Task[None] | None = None
        hub.bus.listen(PeerUp, self._on_peer_up)

    def bound(self, module_bytes_max: int) -> None:
        """Take modules of that size from now on."""
        self._module_bytes_max = module_bytes_max

    @property
    def states(self) -> Mapping[str, str]:
        """What this device says of each runtime, by its hash: READY, or why it is not."""
        return self._states

    def permit(self, permitted: bool) -> None:
        """Let it work, or have it stop where it is and begin again later."""
        self._permitted = permitted
        if permitted:
            self._begin()
        elif self._working is not None:
            self._working.cancel()

    def _on_peer_up(self, up: PeerUp) -> None:
        key = up.hello.public_key
        if key is None or not self._channel.trusts(key):
            return
        for each in offered(up.hello):
            if self._states.get(each.sha) != READY and len(self._states) < RUNTIMES_MAX:
                self._states.setdefault(each.sha, f"has not prepared {each.name} yet")
                self._wanted[each.sha] = each, up.peer_id
        self._begin()

    def _begin(self) -> None:
        if self._permitted and self._wanted and self._working is None:
            self._working = self._hub.tasks.spawn(self._work(), "prepare runtimes")
            self._working.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._working = None
        self._begin()

    async def _work(self) -> None:
        while self._wanted:
            sha, (each, peer_id) = next(iter(self._wanted.items()))
            try:
                state = await self._prepared(each, peer_id)
            except asyncio.CancelledError:
                if self._states[sha] != PARTLY_READY:
                    await self._tell(sha, f"has not prepared {each.name} yet")
                raise
            if self._wanted.get(sha) == (each, peer_id):
                del self._wanted[sha]
            await self._tell(sha, state)

    async def _prepared(self, each: Offered, peer_id: str) -> str:
        """Prepare a runtime; returns READY, or why it can't be."""
        if each.memory_bytes > self._memory_bytes:
            return (
                f"gives a shard {format_size(self._memory_bytes)} of memory, "
                f"{each.name} needs {format_size(each.memory_bytes)}"
            )
        if each.size_bytes > self._module_bytes_max:
            return f"takes no module of {format_size(each.size_bytes)} (sandbox: module)"
        fetched: list[bytes] = []

        async def load() -> bytes:
            if not fetched:
                fetched.append(await self._mesh.fetch(peer_id, each.sha, each.size_bytes))
            if self._states[each.sha] != PARTLY_READY:
                await self._tell(each.sha, f"compiling {each.name}")
            return fetched[0]

        if not self._sandbox.is_prepared(each.sha, deterministic=False):
            await self._tell(each.sha, f"fetching {each.name}")
        try:
            await self._sandbox.prepare(each.sha, load, deterministic=False)
            if not self._sandbox.is_prepared(each.sha, deterministic=True):
                await self._tell(each.sha, PARTLY_READY)
            await self._sandbox.prepare(each.sha, load, deterministic=True)
        except MeshError as error:
            why = f"could not fetch {each.name}: {error}"
        except SandboxError as error:
            why = f"can't compile {each.name}: {error}"
        else:
            return READY
        # What was compiled can be used.
        return PARTLY_READY if self._states[each.sha] == PARTLY_READY else why[:_SAID_MAX_CHARS]

    async def _tell(self, sha: str, state: str) -> None:
        if self._states.get(sha) == state:
            return
        self._states[sha] = state
        _LOGGER.info("Runtimes: %s", state)
        await self._telemetry.declare_runtimes(dict(self._states))


def offered(hello: Hello) -> tuple[Offered, ...]:
    """Return the runtimes that a gateway offers; what is no such thing is left out."""
    plain = hello.capabilities.get("gateway", {}).get("runtimes")
    if not isinstance(plain, dict):
        return ()
    found = (_offered(name, each) for name, each in list(plain.items())[:RUNTIMES_MAX])
    return tuple(each for each in found if each is not None)


def _offered(name: object, plain: Any) -> Offered | None:
    if not is_text(name, _NAME_MAX_CHARS) or not isinstance(plain, dict):
        return None
    sha, size_bytes, memory_bytes = (
        plain.get(key) for key in ("sha", "size_bytes", "memory_bytes")
    )
    if not isinstance(sha, str) or not SHA256_HEX.match(sha):
        return None
    if not is_int(size_bytes, 1, 2**31) or not is_int(memory_bytes, 0, 2**32):
        return None
    assert isinstance(name, str)
    assert isinstance(size_bytes, int)
    assert isinstance(memory_bytes, int)
    return Offered(name, sha, size_bytes, memory_bytes)
