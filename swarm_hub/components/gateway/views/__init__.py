"""The gateway's views: what clients ask of it, and the shape of the answers."""

from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.gateway.nodes.invitations import Invitations
from swarm_hub.components.gateway.nodes.networks import Networks
from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.views import (
    invites,
    jobs,
    networks,
    nodes,
    shard_result,
    submissions,
)
from swarm_hub.core import Hub


def register(
    hub: Hub, service: JobService, fleet: Fleet, banned: Networks, invitations: Invitations
) -> None:
    """Have the gateway's views served."""
    for view in (
        submissions.view(hub, service),
        *jobs.views(service),
        shard_result.view(hub, service),
        *nodes.views(fleet),
        *networks.views(banned),
        *invites.views(invitations),
    ):
        hub.endpoints.add_view(view)
    hub.endpoints.add_health(fleet.counts)
