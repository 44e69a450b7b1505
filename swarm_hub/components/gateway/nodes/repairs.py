"""What the owner of a gateway should do about its nodes."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from swarm_hub.components.gateway.nodes.losses import LOSSES, WITHIN_S, Losses
from swarm_hub.models.messages import UNTRUSTED
from swarm_hub.repairs import Repair


def of_nodes(
    losses: Losses,
    names: Mapping[str, str],
    refusals: Mapping[str, str],
    own_key: bytes,
    rests: Callable[[str], bool],
    drain: Callable[[str, str], Awaitable[object]],
) -> Iterable[Repair]:
    """Yield the nodes that are of no use as they are; what `rests` is drained or banned already."""
    for node_id, name in losses.flapping():
        if rests(node_id):
            continue

        async def mend(node_id: str = node_id) -> None:
            await drain(node_id, "it was lost again and again")

        yield Repair(
            f"flaps.{node_id}",
            "warning",
            f"The node {name} was lost {LOSSES} times in {WITHIN_S / 60:.0f} min",
            "Each time its shards begin anew elsewhere, and jobs take longer.",
            "Look at its network and at what its device does to save power; or let it rest until "
            "that is better.",
            f"swarm-hub node drain {node_id}",
            button="Drain it",
            mend=mend,
        )
    for node_id, reason in refusals.items():
        if reason == UNTRUSTED:
            yield Repair(
                f"untrusted.{node_id}",
                "warning",
                f"The worker {names.get(node_id, node_id)} does not trust this gateway",
                "It takes no work from here.",
                "On that device join this gateway by an invitation (here: swarm-hub invite), or "
                f"put this gateway's key into its configuration, signer: trust: [{own_key.hex()}].",
            )
