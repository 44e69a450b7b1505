"""The gateway's views: what clients ask of it, and the shape of the answers."""

from swarm_hub.components.gateway.job_feeds import JobFeeds
from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.gateway.nodes.gateways import Gateways
from swarm_hub.components.gateway.nodes.history import Histories
from swarm_hub.components.gateway.nodes.invitations import Invitations
from swarm_hub.components.gateway.nodes.networks import Networks
from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.submission.uploads import Uploads
from swarm_hub.components.gateway.views import (
    blobs,
    commands,
    gateways,
    history,
    invites,
    job_changes,
    job_events,
    jobs,
    modules,
    networks,
    nodes,
    shard_result,
    submissions,
)
from swarm_hub.core import Hub


def register(
    hub: Hub,
    service: JobService,
    uploads: Uploads,
    feeds: JobFeeds,
    fleet: Fleet,
    banned: Networks,
    invitations: Invitations,
    histories: Histories,
    living: Gateways,
) -> None:
    """Have the gateway's views and commands served."""
    views = (
        submissions.view(hub, service, uploads),
        *blobs.views(uploads),
        modules.view(service),
        *jobs.views(service),
        *job_changes.views(service),
        job_events.view(service, feeds),
        *shard_result.views(hub, service),
        *nodes.views(fleet),
        gateways.view(living),
        *networks.views(banned),
        *invites.views(invitations),
        history.view(histories),
    )
    for view in views:
        hub.endpoints.add_view(view)
    for command in commands.commands(views, service, fleet):
        hub.endpoints.add_command(command)
    hub.endpoints.add_health(fleet.counts)
