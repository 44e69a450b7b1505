"""Content: result blobs by their hash, given to trusted hubs and fetched from others."""

from dataclasses import dataclass

from swarm_hub.components.content.announcer import Announcer
from swarm_hub.components.content.library import Library
from swarm_hub.components.content.search import Search
from swarm_hub.components.content.service import ContentService
from swarm_hub.components.content.views import view
from swarm_hub.components.mesh import MESH, Capability
from swarm_hub.components.signer import SIGNER
from swarm_hub.core import Hub, SimpleReloader
from swarm_hub.helpers import config_validation as cv


@dataclass(frozen=True, slots=True)
class ContentConfig:
    """`content:`: how large a blob is fetched from others."""

    max_bytes: int


CONFIG_SCHEMA = cv.section(
    {cv.Key("max", default="256MiB", reloadable=True, field="max_bytes"): cv.size}, ContentConfig
)


async def async_setup(hub: Hub, config: ContentConfig) -> bool:
    """Announce the results in this hub's store, serve them, and find those of others."""
    mesh = hub.services[MESH]
    mesh.routes.enable()
    library = Library(hub, mesh, hub.services[SIGNER])
    # The hello tells other hubs that it makes sense to ask this one.
    mesh.register(Capability("content", {}, wants=library.is_companion))
    search = Search(hub, mesh, config.max_bytes)
    hub.endpoints.add_view(view(ContentService(hub, search)))
    hub.reloaders["content"] = SimpleReloader(lambda new: search.bound(new.max_bytes))
    hub.on_start(Announcer(hub, mesh).start)
    return True
