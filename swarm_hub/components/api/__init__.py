"""The API: REST and websocket, on loopback unless configured otherwise, never without a token."""

from dataclasses import dataclass

from swarm_hub.components.api.health import health_view
from swarm_hub.components.api.server import ApiServer
from swarm_hub.const import DEFAULT_API_PORT, TOKENS_FILE
from swarm_hub.core import Hub, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.tokens import TokenFile


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`api:`: where to listen and how large a request may be."""

    host: str
    port: int
    request_bytes: int


CONFIG_SCHEMA = cv.section(
    {
        cv.Key("host", default="127.0.0.1", reloadable=False): cv.host,
        cv.Key("port", default=DEFAULT_API_PORT, reloadable=False): cv.integer(0, 65535),
        cv.Key("request", default="384MiB", reloadable=True, field="request_bytes"): cv.size,
    },
    ApiConfig,
)


async def async_setup(hub: Hub, config: ApiConfig) -> bool:
    """Bind the port at once, to report a port in use now; serve once everything has started."""
    hub.endpoints.add_view(health_view(hub))
    tokens = TokenFile(hub.storage_path(TOKENS_FILE))
    server = ApiServer(hub, tokens, config.request_bytes)
    server.bind(config.host, config.port)
    # A request that came before the sandbox or the gateway's jobs are ready would be refused.
    hub.on_open(server.start)
    hub.on_stop(StopStage.INTAKE, "api", server.stop, timeout_s=4)
    return True
