"""What a gateway offers: which assignments can be taken as offered, and why others can't."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from swarm_hub.components.signer import Batch
from swarm_hub.models import features, messages
from swarm_hub.models.messages import Assign, Nack
from swarm_hub.storage.queries.inbox import InboxEntry


@dataclass(slots=True)
class Offers:
    """The assignments of one envelope."""

    assigns: list[Assign] = field(default_factory=list)
    refused: list[Nack] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.assigns or self.refused)

    def assignment_ids(self) -> list[str]:
        """Return all of them."""
        taken = [shard.assignment_id for assign in self.assigns for shard in assign.shards]
        return [
            *taken,
            *(assignment_id for nack in self.refused for assignment_id in nack.assignment_ids),
        ]


def read_offers(batch: Batch) -> Offers:
    """Read the assignments of a batch; each invalid one is refused by itself."""
    offers = Offers()
    for assign, unreadable in batch.read(messages.ASSIGN, messages.read_assign):
        for each in unreadable:
            batch.fault(f"a malformed {each.reason}")
            if each.assignment_ids:
                offers.refused.append(Nack(each.assignment_ids, each.reason))
        if assign is None:
            continue
        if unknown := features.unknown(assign.call.needs):
            offers.refused.append(_without(assign, unknown))
        else:
            offers.assigns.append(assign)
    return offers


def inbox_entries(
    assigns: Iterable[Assign], gateway: str, store_id: str, now: float
) -> list[InboxEntry]:
    """Return assignments as they are kept; those of a message share one text of their call."""
    entries = []
    for assign in assigns:
        call = json.dumps(
            {"call": assign.call.to_plain(), "module_bytes": assign.module_bytes},
            separators=(",", ":"),
        )
        entries += [
            InboxEntry(
                shard.assignment_id, gateway, call, shard.input_sha, shard.size_bytes, shard.data,
                now, store_id,
            )
            for shard in assign.shards
        ]  # fmt: skip
    return entries


def _without(assign: Assign, unknown: frozenset[str]) -> Nack:
    assignment_ids = tuple(shard.assignment_id for shard in assign.shards)
    return Nack(assignment_ids, features.why_not(unknown), unknown)
