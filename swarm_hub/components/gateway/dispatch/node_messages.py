"""What workers say about their assignments: each message is checked, fenced and made an event."""

import logging
from collections.abc import Sequence

from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.gateway.links.base import NodeWords
from swarm_hub.components.gateway.results.receipts import ReceiptRule
from swarm_hub.components.gateway.submission.inputs import Inputs
from swarm_hub.components.scheduler import StateMachine
from swarm_hub.core import Hub
from swarm_hub.exceptions import MeshError, StoreError
from swarm_hub.models.messages import Nack, Result, Unreadable
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import job_of
from swarm_hub.storage import Write
from swarm_hub.storage.queries import leases
from swarm_hub.util.apart import apart
from swarm_hub.util.hashing import sha256_hex

_LOGGER = logging.getLogger(__name__)

_OK = "ok"
_OTHER_INPUT = "the result is of another input"
_OTHER_CALL = "the result is of another module or another call of it"


class NodeMessages:
    """Handles ACKs, NACKs and results."""

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        machine: StateMachine,
        inputs: Inputs,
        receipts: ReceiptRule,
    ) -> None:
        self._hub = hub
        self._dispatcher = dispatcher
        self._machine = machine
        self._inputs = inputs
        self._receipts = receipts
        self._links = dispatcher.links
        self._links.on_said(self._on_said)

    def _on_said(self, words: NodeWords) -> None:
        if not (words.accepted or words.returned or words.results):
            return
        self._dispatcher.add_to_next_commit(words.writes)
        node_id, what = words.node_id, f"Handling a message of {words.node_id}"
        if words.accepted:
            apart(_LOGGER, what, self._on_ack, node_id, words.accepted)
        for nack in words.returned:
            apart(_LOGGER, what, self._on_nack, node_id, nack)
        for result in words.results:
            if isinstance(result, Result):
                apart(
                    _LOGGER, what, self._on_result, node_id, result, words.receipt, words.unsigned
                )
            else:
                words.fault(f"a malformed {result.reason}")
                apart(_LOGGER, what, self._on_unreadable, node_id, result)

    def _on_ack(self, peer_id: str, acked: Sequence[str]) -> None:
        unwanted = []
        for assignment_id in acked:
            if self._is_assignee(peer_id, assignment_id):
                self._dispatcher.accepted(assignment_id)
            elif not self._may_be_wanted(assignment_id):
                # The node still holds what was withdrawn while it was away.
                unwanted.append(assignment_id)
        if unwanted and (link := self._links.get(peer_id)) is not None:
            link.cancel(unwanted)

    def _on_nack(self, peer_id: str, nack: Nack) -> None:
        own = [
            assignment_id
            for assignment_id in nack.assignment_ids
            if self._is_assignee(peer_id, assignment_id)
        ]
        if own:
            _LOGGER.info("%s gave back %d assignments: %s", peer_id, len(own), nack.reason)
        for assignment_id in own:
            self._dispatcher.rejected(assignment_id, nack.reason, nack.lacks)

    def _on_unreadable(self, peer_id: str, result: Unreadable) -> None:
        """Count an unreadable result as a failure: if it were sent again it would be the same."""
        for assignment_id in result.assignment_ids:
            if self._is_assignee(peer_id, assignment_id):
                self._dispatcher.failed(assignment_id, result.reason)
                self._inputs.drop(assignment_id)
            elif self._may_be_wanted(assignment_id):
                continue
            self._dispatcher.acknowledge(peer_id, assignment_id)

    def _on_result(
        self, peer_id: str, result: Result, receipt: Receipt | None, unsigned: bool
    ) -> None:
        assignment_id = result.assignment_id
        if not self._is_assignee(peer_id, assignment_id):
            if self._dispatcher.is_read_anew(job_of(assignment_id)):
                # The node offers it again.
                return
            if self._may_be_anothers(assignment_id):
                self._hub.tasks.spawn(
                    self._leave_to_owner(peer_id, assignment_id), "result of another"
                )
            else:
                # Its job ended or another result came first. It is acknowledged but not counted.
                self._dispatcher.acknowledge(peer_id, assignment_id)
            return
        job = self._dispatcher.job(job_of(assignment_id))
        # If it is not kept, the envelope is released now, before a large body is fetched.
        kept = receipt if job is not None and self._receipts.keeps(job) else None
        if unsigned and job is not None and self._receipts.keeps(job):
            # Its node says it again soon, and signs whatever it says again.
            _LOGGER.debug("%s did not sign the result of %s", peer_id, assignment_id)
            return
        if self._inputs.sha(assignment_id) is None or result.body is None:
            self._hub.tasks.spawn(self._look_up(peer_id, result, kept), "look up result")
        else:
            self._judge(peer_id, result, None, kept)

    async def _look_up(self, peer_id: str, result: Result, receipt: Receipt | None) -> None:
        """Get what is missing to judge a result: its body, and the hash its input should have had.

        The input's hash is not known for an assignment that was sent before a restart of this
        gateway, or by another gateway.
        """
        row = None
        try:
            if self._inputs.sha(result.assignment_id) is None:
                await self._dispatcher.prepare_input(result.assignment_id)
            if result.body is None:
                link = self._links.get(peer_id)
                if link is None:
                    raise MeshError("it has left")
                async with link.fetching(result.sha, result.size_bytes) as body:
                    now = self._hub.clock.time()
                    row = await self._hub.store.blobs.put_verified(result.sha, body, now)
        except (MeshError, StoreError, OSError) as error:
            # The worker keeps it in its outbox and offers it again.
            _LOGGER.warning("A result of %s can't be taken yet: %s", peer_id, error)
            return
        except Exception as error:
            # Nor could it be taken if it were offered again.
            _LOGGER.exception("A result of %s can't be taken", peer_id)
            if self._is_assignee(peer_id, result.assignment_id):
                self._dispatcher.failed(result.assignment_id, f"its result can't be taken: {error}")
            self._dispatcher.acknowledge(peer_id, result.assignment_id)
            return
        if self._is_assignee(peer_id, result.assignment_id):
            self._judge(peer_id, result, row, receipt)
        else:
            self._dispatcher.acknowledge(peer_id, result.assignment_id)

    def _judge(
        self, peer_id: str, result: Result, row: Write | None, receipt: Receipt | None
    ) -> None:
        assignment_id = result.assignment_id
        if self._inputs.sha(assignment_id) != result.input_sha:
            _LOGGER.warning("%s answered %s for another input; not counted", peer_id, assignment_id)
            self._dispatcher.failed(assignment_id, _OTHER_INPUT)
        elif not self._is_of_its_call(result):
            self._dispatcher.failed(assignment_id, _OTHER_CALL)
        elif result.code != _OK:
            text = f"{result.code}: {result.text}"
            self._dispatcher.failed(assignment_id, text, result.wall_s)
        elif result.body is not None and sha256_hex(result.body) != result.sha:
            self._dispatcher.failed(assignment_id, "the result is not what was signed")
        elif not self._dispatcher.finished(peer_id, result, row, receipt):
            # It is not in the store; the node offers it again.
            return
        self._inputs.drop(assignment_id)
        self._dispatcher.acknowledge(peer_id, assignment_id)

    def _is_of_its_call(self, result: Result) -> bool:
        job = self._dispatcher.job(job_of(result.assignment_id))
        return (
            result.call_sha is None
            or job is None
            or (result.call_sha == self._inputs.call_sha(job))
        )

    def _may_be_wanted(self, assignment_id: str) -> bool:
        """Whether an assignment that is not known here may still be waited for."""
        job_id = job_of(assignment_id)
        return self._dispatcher.is_read_anew(job_id) or self._may_be_anothers(assignment_id)

    def _may_be_anothers(self, assignment_id: str) -> bool:
        """Whether another gateway of a shared store may wait for this assignment."""
        return self._hub.store.shared and self._dispatcher.job(job_of(assignment_id)) is None

    async def _leave_to_owner(self, peer_id: str, assignment_id: str) -> None:
        """Acknowledge a result that nobody waits for; leave the others in the worker's outbox."""
        try:
            owner = await self._hub.store.read(leases.owner, job_of(assignment_id))
        except StoreError as error:
            # The worker keeps it in its outbox and offers it again.
            _LOGGER.warning("Can't tell whose a result of %s is: %s", peer_id, error)
            return
        if owner is None:
            self._dispatcher.acknowledge(peer_id, assignment_id)

    def _is_assignee(self, peer_id: str, assignment_id: str) -> bool:
        assignment = self._machine.assignment(assignment_id)
        if assignment is None:
            return False
        if assignment.node_id != peer_id:
            _LOGGER.warning("%s spoke for an assignment of %s", peer_id, assignment.node_id)
            return False
        return True
