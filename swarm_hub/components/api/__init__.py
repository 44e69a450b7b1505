"""The API: REST and websocket, on loopback unless configured otherwise, never without a token."""

import ipaddress
from dataclasses import dataclass
from typing import Any

import voluptuous as vol

from swarm_hub.components.api.access import Access
from swarm_hub.components.api.config_command import get_config
from swarm_hub.components.api.connections import KEEP_ALIVE_S, Connections
from swarm_hub.components.api.health import health_view
from swarm_hub.components.api.logins import IPNetwork, Logins
from swarm_hub.components.api.quotas import Quotas
from swarm_hub.components.api.server import LINGER_S, ApiServer
from swarm_hub.components.api.system import system_view
from swarm_hub.const import DEFAULT_API_PORT, TOKENS_FILE
from swarm_hub.core import Hub, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.util.bounds import shown


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`api:`: where to listen, what a client may send, and whom to believe."""

    host: str
    port: int
    request_bytes: int
    connections: int
    connections_per_ip: int
    requests_per_owner: int | None
    upload_per_owner_bytes: int | None
    login_attempts: int
    ip_ban_s: float | None
    trusted_proxies: tuple[IPNetwork, ...]
    allowed_hosts: tuple[str, ...]


def _network(value: Any) -> IPNetwork:
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        raise vol.Invalid(
            f"expected an address or a network such as 10.0.0.0/8, got {shown(value)}"
        ) from None


CONFIG_SCHEMA = cv.section(
    {
        cv.Key("host", default="127.0.0.1", reloadable=False): cv.host,
        cv.Key("port", default=DEFAULT_API_PORT, reloadable=False): cv.integer(0, 65535),
        cv.Key("request", default="384MiB", reloadable=True, field="request_bytes"): cv.size,
        cv.Key("connections", default=1000, reloadable=True): cv.integer(8, 1_000_000),
        cv.Key("connections_per_ip", default=256, reloadable=True): cv.integer(1, 1_000_000),
        cv.Key("requests_per_owner", default=None, reloadable=True): cv.optional(
            cv.integer(1, 1_000_000)
        ),
        cv.Key(
            "upload_per_owner", default=None, reloadable=True, field="upload_per_owner_bytes"
        ): cv.optional(cv.size),
        cv.Key("login_attempts", default=20, reloadable=True): cv.integer(1, 1_000_000),
        cv.Key("ip_ban", default="1h", reloadable=True, field="ip_ban_s"): vol.Any(
            vol.All(False, lambda _off: None), cv.positive_duration
        ),
        cv.Key("trusted_proxies", default=list, reloadable=True): cv.sequence(_network),
        cv.Key("allowed_hosts", default=list, reloadable=True): cv.sequence(cv.host),
    },
    ApiConfig,
)


async def async_setup(hub: Hub, config: ApiConfig) -> bool:
    """Bind the port at once, to report a port in use now; serve once everything has started."""
    hub.endpoints.add_view(health_view(hub))
    hub.endpoints.add_command(get_config(hub))
    hub.endpoints.add_view(
        system_view(
            hub,
            {
                "request": config.request_bytes, "connections": config.connections,
                "connections_per_ip": config.connections_per_ip,
                "requests_per_owner": config.requests_per_owner,
                "upload_per_owner": config.upload_per_owner_bytes,
            },
        )
    )  # fmt: skip
    tokens = TokenFile(hub.storage_path(TOKENS_FILE))
    logins = Logins(hub.clock, config.login_attempts, config.ip_ban_s, config.trusted_proxies)
    connections = Connections(
        config.connections, config.connections_per_ip, logins.is_proxy,
        keepalive_timeout=KEEP_ALIVE_S, lingering_time=LINGER_S, access_log=None,
    )  # fmt: skip
    quotas = Quotas(hub.clock, config.requests_per_owner, config.upload_per_owner_bytes)
    access = Access(tokens, hub.clock, logins, [config.host, *config.allowed_hosts])
    server = ApiServer(hub, access, connections, quotas, config.request_bytes)
    server.bind(config.host, config.port)
    # A request that came before the sandbox or the gateway's jobs are ready would be refused.
    hub.on_open(server.start)
    hub.on_stop(StopStage.INTAKE, "api", server.stop, timeout_s=4)
    return True
