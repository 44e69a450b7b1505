"""What gateways say to this worker: work is on its disk before they are told that it has it.

Most shards take milliseconds. Only what has no outcome a moment after it came is written down and
ACKed; what has one was sent by then, and its result says as much as the ACK.
"""

import asyncio
import logging
from typing import Final

from swarm_hub.components.mesh import Mesh, PeerUp
from swarm_hub.components.signer import Batch, EnvelopeChannel
from swarm_hub.components.worker.assignments import Assignments, Origin
from swarm_hub.components.worker.delivery import Delivery
from swarm_hub.components.worker.drain import Drain
from swarm_hub.components.worker.executor import Executor
from swarm_hub.components.worker.offers import inbox_entries, read_offers
from swarm_hub.components.worker.outbox import Outbox
from swarm_hub.core import Hub
from swarm_hub.exceptions import StoreError
from swarm_hub.models import messages
from swarm_hub.models.messages import Assign, Nack
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import InboxEntry

_LOGGER = logging.getLogger(__name__)

# What has no outcome after this time is written down.
_WRITE_DOWN_AFTER_S: Final = 0.05
# An ACK changes nothing at the gateway but a word in a status, so it may wait for a result whose
# envelope it can share; one of its own costs both sides half a millisecond of CPU.
_ACK_WITHIN_S: Final = 0.02
# Assignments held at once; a gateway that sends more gets them back.
_HELD_MAX: Final = 8192


class Intake:
    """Accepts assignments, takes them off again, and hears what was delivered."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        channel: EnvelopeChannel,
        assignments: Assignments,
        executor: Executor,
        delivery: Delivery,
        outbox: Outbox,
        drain: Drain,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._assignments = assignments
        self._executor = executor
        self._delivery = delivery
        self._outbox = outbox
        self._drain = drain
        kinds = (
            messages.ASSIGN, messages.CANCEL, messages.PREEMPT, messages.RESULT_ACK, messages.DRAIN,
        )  # fmt: skip
        channel.on(kinds, self._on_batch)
        hub.bus.listen(PeerUp, self._on_peer_up)

    def _on_batch(self, batch: Batch) -> None:
        offers = read_offers(batch)
        if not batch.trusted:
            if offers:
                _LOGGER.warning(
                    "Refused work from %s: its key is not in signer: trust", batch.peer_id
                )
            self._assignments.nack(batch.peer_id, offers.assignment_ids(), messages.UNTRUSTED)
            return
        for delivered in batch.read(messages.RESULT_ACK, messages.ids):
            self._on_delivered(delivered)
        for cancelled in batch.read(messages.CANCEL, messages.ids):
            self._on_cancel(batch.peer_id, cancelled)
        for preempted in batch.read(messages.PREEMPT, messages.ids):
            self._on_preempt(batch.peer_id, preempted)
        for node, reason in batch.read(messages.DRAIN, messages.read_drain):
            # Without a node it is the word of a worker, for the gateway that this hub may be too.
            if node == self._mesh.peer_id:
                self._drain.drained_by(batch.peer_id, reason)
        for nack in offers.refused:
            self._refuse_offered(batch.peer_id, nack)
        if offers.assigns:
            self._accept(batch, offers.assigns)
        self._outbox.write_soon(batch.writes)

    def _refuse_offered(self, gateway: str, nack: Nack) -> None:
        """Give back what can't be taken as it was said, but for what is held from before."""
        refused = [
            assignment_id
            for assignment_id in nack.assignment_ids
            if not self._is_known(assignment_id)
        ]
        if refused:
            _LOGGER.warning("Gave back %d assignments: %s", len(refused), nack.reason)
            self._assignments.nack(gateway, refused, nack.reason, nack.lacks)

    def _accept(self, batch: Batch, assigns: list[Assign]) -> None:
        """Run what is new, and see to what is not done soon."""
        gateway = batch.peer_id
        offered = [shard.assignment_id for assign in assigns for shard in assign.shards]
        origin = Origin(gateway, self._mesh.store_of(gateway))
        foreign = [
            assignment_id for assignment_id in offered if not self._is_of(assignment_id, origin)
        ]
        self._assignments.nack(gateway, foreign, "another gateway gave out this assignment")
        known = [
            assignment_id
            for assignment_id in offered
            if assignment_id not in foreign and self._is_known(assignment_id)
        ]
        fresh = [] if batch.replayed else self._fresh(origin, assigns, {*known, *foreign})
        new = [entry.assignment_id for entry in fresh]
        refusal = self._drain.refusal(gateway)
        if refusal is None and len(self._assignments) + len(new) > _HELD_MAX:
            refusal = "too many assignments held"
        if refusal is not None:
            self._assignments.nack(gateway, new, refusal)
            fresh, new = [], []
        self._assignments.put(fresh, origin)
        self._executor.put(fresh)
        self._take_over(known, origin)
        self._ack(gateway, [each for each in known if self._is_on_disk(each)])
        if new:
            asyncio.get_running_loop().call_later(_WRITE_DOWN_AFTER_S, self._write_down, new)

    def _write_down(self, assignment_ids: list[str]) -> None:
        if self._assignments.has_unwritten(assignment_ids):
            self._hub.tasks.spawn(self._write_down_and_ack(assignment_ids), "write down and ACK")

    async def _write_down_and_ack(self, assignment_ids: list[str]) -> None:
        # Taken in the turn in which they go to the store: who takes one off, or has its outcome,
        # before that finds it unwritten, and later deletes a row that is written before.
        if not (late := self._assignments.unwritten(assignment_ids)):
            return
        notes = self._outbox.take_notes()
        try:
            await self._hub.store.commit([*notes, inbox.accept(late)])
        except StoreError as error:
            _LOGGER.warning("Can't keep %d assignments: %s", len(late), error)
            self._outbox.write_soon(notes)
            lost = [each.assignment_id for each in late if each.assignment_id in self._assignments]
            self._drain.hand_back(lost, f"its store failed: {error}")
            return
        for gateway, assignment_ids in self._assignments.written(late).items():
            self._ack(gateway, assignment_ids)

    def _ack(self, gateway: str, assignment_ids: list[str]) -> None:
        if assignment_ids:
            self._channel.send(
                gateway, messages.ACK, {"ids": assignment_ids}, within_s=_ACK_WITHIN_S
            )

    def _is_on_disk(self, assignment_id: str) -> bool:
        return self._assignments.is_on_disk(assignment_id) or self._delivery.is_on_disk(
            assignment_id
        )

    def _is_known(self, assignment_id: str) -> bool:
        return assignment_id in self._assignments or assignment_id in self._delivery

    def _is_of(self, assignment_id: str, origin: Origin) -> bool:
        """Whether a gateway may speak of an assignment: it is new, its own or of its store."""
        before = self._assignments.origin(assignment_id) or self._delivery.origin(assignment_id)
        if before is None:
            return True
        same_store = origin.store_id != "" and before.store_id == origin.store_id
        return before.gateway == origin.gateway or same_store

    def _take_over(self, known: list[str], origin: Origin) -> None:
        """Answer to the gateway that has taken a job over from another of its store."""
        running = self._assignments.hand_over(known, origin)
        finished = self._delivery.hand_over(known, origin.gateway)
        self._outbox.write_soon([*running, *finished])

    def _fresh(self, origin: Origin, assigns: list[Assign], known: set[str]) -> list[InboxEntry]:
        now = self._hub.clock.time()
        entries = inbox_entries(assigns, origin.gateway, origin.store_id, now)
        return [entry for entry in entries if entry.assignment_id not in known]

    def _on_delivered(self, assignment_ids: list[str]) -> None:
        if known := self._delivery.drop(assignment_ids):
            self._outbox.write_soon([inbox.delivered(known)])

    def _on_cancel(self, peer_id: str, assignment_ids: list[str]) -> None:
        origin = Origin(peer_id, self._mesh.store_of(peer_id))
        dropped = [
            assignment_id for assignment_id in assignment_ids if self._is_of(assignment_id, origin)
        ]
        self._delivery.drop(dropped)
        self._assignments.forget(dropped)
        self._executor.take_off(dropped)
        self._hub.store.note(inbox.drop(dropped))

    def _on_preempt(self, peer_id: str, assignment_ids: list[str]) -> None:
        origin = Origin(peer_id, self._mesh.store_of(peer_id))
        theirs = {
            assignment_id
            for assignment_id in assignment_ids
            if assignment_id in self._assignments and self._is_of(assignment_id, origin)
        }
        if not theirs:
            return
        # Whoever may speak for them is to hear of those that are given back.
        self._take_over(list(theirs), origin)
        # One at a time would begin the second in the slot that the first one left.
        waiting = theirs.intersection(self._executor.not_begun())
        self._drain.hand_back(waiting, messages.GAVE_WAY)
        self._executor.preempt(theirs - waiting)

    def _on_peer_up(self, up: PeerUp) -> None:
        if "gateway" not in up.hello.capabilities:
            return
        # The gateway answers with `cancel` for what it withdrew while this worker was away.
        held = self._assignments.given_out_by(up.peer_id)
        self._ack(up.peer_id, [each for each in held if self._is_on_disk(each)])
