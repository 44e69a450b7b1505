"""Instructions become messages: nodes are told what was committed."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from swarm_hub.components.gateway.links.base import NodeLinks
from swarm_hub.components.gateway.submission.inputs import Inputs
from swarm_hub.components.gateway.submission.module_call import module_call
from swarm_hub.components.scheduler import Preempt, Send, Withdraw
from swarm_hub.models.job import Job
from swarm_hub.models.messages import Assign, OfferedShard

# An assign is one message, which must fit into an envelope (512 KiB) with room to spare.
_ASSIGN_SHARDS_MAX: Final = 64
_ASSIGN_BYTES_MAX: Final = 384 * 1024


class Sender:
    """Sends assignments, preemptions, withdrawals and acknowledgements."""

    def __init__(
        self,
        links: NodeLinks,
        inputs: Inputs,
        owner_key: bytes,
        keeps_receipts: Callable[[Job], bool],
    ) -> None:
        self._links = links
        self._inputs = inputs
        self._owner_key = owner_key
        self._keeps_receipts = keeps_receipts

    def acknowledge(self, results: Mapping[str, list[str]]) -> None:
        """Tell each node which of its results are on our disk."""
        for node_id, assignment_ids in results.items():
            if (link := self._links.get(node_id)) is not None:
                link.acknowledge(assignment_ids)

    def preempt(self, instructions: Iterable[Preempt]) -> None:
        """Tell nodes which of their assignments give way to others."""
        for node_id, assignment_ids in _by_node(instructions).items():
            if (link := self._links.get(node_id)) is not None:
                link.preempt(assignment_ids)

    def withdraw(self, instructions: Iterable[Withdraw]) -> None:
        """Tell nodes which assignments are no longer wanted."""
        for node_id, assignment_ids in _by_node(instructions).items():
            if (link := self._links.get(node_id)) is not None:
                link.cancel(assignment_ids)

    async def send(self, job: Job, sends: Sequence[Send]) -> None:
        """Send a job's assignments, many shards per message."""
        by_node: dict[str, list[Send]] = defaultdict(list)
        for each in sends:
            by_node[each.node_id].append(each)
        call = module_call(job, self._owner_key)
        if self._keeps_receipts(job):
            call = replace(call, receipt=True)
        for node_id, group in by_node.items():
            shards: list[OfferedShard] = []
            along_bytes = 0
            for each in group:
                shard = await self._offered(job, each)
                size = len(shard.data or b"")
                if len(shards) >= _ASSIGN_SHARDS_MAX or along_bytes + size > _ASSIGN_BYTES_MAX:
                    self._assign(node_id, Assign(call, job.module_bytes, tuple(shards)))
                    shards, along_bytes = [], 0
                shards.append(shard)
                along_bytes += size
            self._assign(node_id, Assign(call, job.module_bytes, tuple(shards)))

    def _assign(self, node_id: str, assign: Assign) -> None:
        if assign.shards and (link := self._links.get(node_id)) is not None:
            link.offer(assign)

    async def _offered(self, job: Job, send: Send) -> OfferedShard:
        assignment_id = send.assignment.id
        prepared = await self._inputs.prepare(job, assignment_id, send.first_item, send.n_items)
        return OfferedShard(assignment_id, prepared.sha, prepared.size_bytes, prepared.inline)


def _by_node(instructions: Iterable[Preempt | Withdraw]) -> dict[str, list[str]]:
    """Return the ids of the assignments that instructions are about, by node."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in instructions:
        found[each.node_id].append(each.assignment_id)
    return found


def sends_by_job(instructions: Iterable[Send | Withdraw | Preempt]) -> dict[str, list[Send]]:
    """Return the assignments to send, grouped by the jobs whose data they need."""
    sends: dict[str, list[Send]] = defaultdict(list)
    for instruction in instructions:
        if isinstance(instruction, Send):
            sends[instruction.job_id].append(instruction)
    return sends
