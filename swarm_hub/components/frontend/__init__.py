"""The page: what a person sees who opens the hub's address in a browser."""

import logging
from dataclasses import dataclass

from swarm_hub.components.api import URLS
from swarm_hub.components.frontend.assets import views
from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrontendConfig:
    """`frontend:`: it has no keys; `frontend: false` switches the page off."""


CONFIG_SCHEMA = cv.section({}, FrontendConfig)


async def async_setup(hub: Hub, _config: FrontendConfig) -> bool:
    """Have the page served; what it shows it asks of the API."""
    for view in views(lambda: hub.endpoints.places):
        hub.endpoints.add_view(view)
    urls = hub.services[URLS]

    async def tell() -> None:
        _LOGGER.info("The page is at %s/ (swarm-hub open)", urls()[0])

    hub.on_open(tell)
    return True
