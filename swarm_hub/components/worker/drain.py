"""Taking no work: why not, what is given back, and what still has time to finish at the stop."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.mesh import Hello, Mesh, PeerDown, PeerUp
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.components.worker.assignments import Assignments
from swarm_hub.components.worker.delivery import Delivery
from swarm_hub.components.worker.executor import Executor
from swarm_hub.core import Hub
from swarm_hub.models import messages
from swarm_hub.models.messages import UNTRUSTED
from swarm_hub.storage.queries import inbox
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

_STOPPING: Final = "the hub is stopping"
# What is finished at stop has this long to be written down and acknowledged.
_DELIVER_WITHIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class WorkerChanged:
    """The worker takes work again, or no more, or more or less at once (bus event)."""


class Drain:
    """Why this worker takes no work, from anybody or from one gateway.

    `settled` is set whenever an assignment or a result is done with.
    """

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        channel: EnvelopeChannel,
        assignments: Assignments,
        executor: Executor,
        delivery: Delivery,
        settled: asyncio.Event,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._assignments = assignments
        self._executor = executor
        self._delivery = delivery
        self._settled = settled
        self.stopping = False
        # source → why it wants nothing to run
        self._holding: dict[str, str] = {}
        # source → why it keeps this worker from taking work
        self._refusing: dict[str, str] = {}
        # Of those, who minds new jobs only.
        self._finishing: set[str] = set()
        # gateway → why it drains this node
        self._drained: dict[str, str] = {}
        # The gateways that are here and have heard that this hub does not obey them.
        self._untrusted: set[str] = set()
        hub.bus.listen(PeerUp, self._on_peer_up)
        hub.bus.listen(PeerDown, self._on_peer_down)

    async def stop(self, finish_within_s: float) -> None:
        """Take no more work, give back what has not begun, end or give back the rest.

        What a gateway that is not here gave out stays in the inbox for the next start.
        """
        self.refuse("hub", _STOPPING)
        self.stopping = True
        self.hand_back(self._executor.not_begun(), _STOPPING)
        await within(finish_within_s, self._executor.until_idle())
        self.hand_back(self._executor.unfinished(), "it did not finish before the hub stopped")
        await within(_DELIVER_WITHIN_S, self._until_delivered())

    def refuse(self, source: str, reason: str | None, *, finishing: bool = False) -> None:
        """Take no new work and say why; with None `source` no longer minds.

        With `finishing` more shards of jobs that the gateways have already are taken.
        """
        if self.stopping:
            return
        before = self._refusal, self._is_finishing
        self._finishing.discard(source)
        if reason is None:
            self._refusing.pop(source, None)
        else:
            self._refusing[source] = reason
            if finishing:
                self._finishing.add(source)
        now = self._refusal
        if (now, self._is_finishing) == before:
            return
        work = "work of new jobs" if self._is_finishing else "work"
        _LOGGER.info("Taking work again" if now is None else f"Taking no {work}: {now}")
        for peer_id, hello in self._mesh.peers().items():
            if "gateway" in hello.capabilities:
                self._tell(peer_id, self._refusal_for(hello))
        self._hub.bus.fire(WorkerChanged())

    def pause(self, source: str, reason: str) -> None:
        """Take no work and run none: what is here goes back to its gateways at once.

        What a gateway that is not here gave out goes back when it comes, or is run after `resume`.
        """
        self._holding[source] = reason
        self._executor.hold()
        self.refuse(source, reason)
        for gateway in self._mesh.peers():
            self._hand_back_all(gateway, reason)

    def resume(self, source: str) -> None:
        """Run and take work again, as far as nothing else is against it."""
        if self._holding.pop(source, None) is not None and not self._holding:
            self._executor.release()
        self.refuse(source, None)

    def trust_changed(self) -> None:
        """Tell the gateways that are here if they are obeyed now, or no longer."""
        for peer_id, hello in self._mesh.peers().items():
            reason = self._refusal_for(hello)
            untrusted = reason == UNTRUSTED
            if "gateway" not in hello.capabilities or untrusted == (peer_id in self._untrusted):
                continue
            self._note_trust(peer_id, reason)
            self._tell(peer_id, reason)
            if untrusted:
                self._hand_back_all(peer_id, UNTRUSTED)

    def _note_trust(self, peer_id: str, reason: str | None) -> None:
        if reason == UNTRUSTED:
            self._untrusted.add(peer_id)
        else:
            self._untrusted.discard(peer_id)

    @property
    def refuses(self) -> str | None:
        """Why no work is taken from anybody."""
        return self._refusal

    @property
    def drained(self) -> dict[str, str]:
        """Which gateways drain this node, and why."""
        return dict(self._drained)

    def refusal(self, gateway: str) -> str | None:
        """Return why nothing at all is taken from a gateway any more."""
        refusal = None if self._is_finishing else self._refusal
        return refusal or self._drained.get(gateway)

    def hand_back(self, assignment_ids: Collection[str], reason: str) -> None:
        """Give back assignments whose gateway is here to hear of it, and forget them."""
        self._executor.take_off(assignment_ids)
        peers = self._mesh.peers()
        returned: dict[str, list[str]] = defaultdict(list)
        for assignment_id in assignment_ids:
            origin = self._assignments.origin(assignment_id)
            if origin is not None and origin.gateway in peers:
                returned[origin.gateway].append(assignment_id)
        for gateway, group in returned.items():
            self._assignments.forget(group)
            self._hub.store.note(inbox.drop(group))
            self._assignments.nack(gateway, group, reason)
            _LOGGER.info("Gave back %d assignments: %s", len(group), reason)

    def hand_back_waiting(self, reason: str) -> None:
        """Give back what has not begun to the gateways that are here; what runs is finished."""
        for gateway in self._mesh.peers():
            theirs = frozenset(self._assignments.given_out_by(gateway))
            self.hand_back([each for each in self._executor.not_begun() if each in theirs], reason)

    def drained_by(self, gateway: str, reason: str | None) -> None:
        """Take no more from a gateway that drains this node, and give back what has not begun."""
        if reason is None:
            if self._drained.pop(gateway, None) is not None:
                _LOGGER.info("The gateway %s gives work again", gateway)
            return
        text = f"the gateway drains this node: {reason}"
        if self._drained.get(gateway) != text:
            _LOGGER.info("No more work from %s: %s", gateway, text)
        self._drained[gateway] = text
        theirs = frozenset(self._assignments.given_out_by(gateway))
        self.hand_back([each for each in self._executor.not_begun() if each in theirs], text)

    @property
    def _refusal(self) -> str | None:
        reasons = ", ".join(self._refusing[source] for source in sorted(self._refusing))
        return reasons[: messages.DRAIN_REASON_MAX] or None

    @property
    def _is_finishing(self) -> bool:
        return bool(self._refusing) and self._refusing.keys() == self._finishing

    def _tell(self, peer_id: str, reason: str | None) -> None:
        finishing = self._is_finishing and reason not in (None, UNTRUSTED)
        extra = {"finishing": True} if finishing else {}
        self._channel.send(peer_id, messages.DRAIN, {"reason": reason, **extra})

    def _refusal_for(self, gateway: Hello) -> str | None:
        trusted = gateway.public_key is not None and self._channel.trusts(gateway.public_key)
        return self._refusal if trusted else UNTRUSTED

    def _on_peer_down(self, down: PeerDown) -> None:
        self._untrusted.discard(down.peer_id)
        self._settled.set()

    def _on_peer_up(self, up: PeerUp) -> None:
        if "gateway" not in up.hello.capabilities:
            return
        # One that still drains this node says so again.
        self._drained.pop(up.peer_id, None)
        reason = self._refusal_for(up.hello)
        self._note_trust(up.peer_id, reason)
        if reason is not None:
            self._tell(up.peer_id, reason)
        if self._holding:
            self._hand_back_all(up.peer_id, ", ".join(self._holding.values()))

    def _hand_back_all(self, gateway: str, reason: str) -> None:
        theirs = frozenset(self._assignments.given_out_by(gateway))
        self.hand_back([each for each in self._executor.unfinished() if each in theirs], reason)

    async def _until_delivered(self) -> None:
        """Return when no gateway that is here still waits for a result, or we for its word."""
        while self._is_waited_for() or self._delivery.is_underway():
            self._settled.clear()
            await self._settled.wait()

    def _is_waited_for(self) -> bool:
        return not self._assignments.gateways().isdisjoint(self._mesh.peers())
