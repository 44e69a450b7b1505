"""The API: REST and websocket, on loopback unless configured otherwise, never without a token."""

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import voluptuous as vol

from swarm_hub.components.api import description
from swarm_hub.components.api.access import Access
from swarm_hub.components.api.audit import AuditLog
from swarm_hub.components.api.config_command import get_config
from swarm_hub.components.api.config_files import config_views
from swarm_hub.components.api.configuration import configuration_views
from swarm_hub.components.api.connections import KEEP_ALIVE_S, Connections
from swarm_hub.components.api.cors import CrossOrigin, origin
from swarm_hub.components.api.diagnostics import WarningsKept, diagnostics_view
from swarm_hub.components.api.health import health_views
from swarm_hub.components.api.links import Links
from swarm_hub.components.api.logger import logger_views
from swarm_hub.components.api.logins import IPNetwork, Logins
from swarm_hub.components.api.metrics import RequestMetrics, metrics_view
from swarm_hub.components.api.quotas import Quotas
from swarm_hub.components.api.server import LINGER_S, WILDCARDS, ApiServer, listening
from swarm_hub.components.api.sessions import Sessions
from swarm_hub.components.api.system import system_view
from swarm_hub.components.api.tls import TLS_SCHEMA, Certificate, TlsConfig
from swarm_hub.const import AUDIT_FILE, DEFAULT_API_PORT, TOKENS_FILE
from swarm_hub.core import Hub, HubKey, SimpleReloader, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.tokens import TokenFile, tokens_of
from swarm_hub.util.bounds import shown
from swarm_hub.util.clock import isoformat
from swarm_hub.util.device import interface_ips

if TYPE_CHECKING:
    from swarm_hub.helpers.obstacles import Obstacle, Site
    from swarm_hub.repairs import Repair

__all__ = ["CLIENT_URLS", "URLS", "ApiConfig"]

_LOGGER = logging.getLogger(__name__)

# Where browsers find this hub.
URLS: Final = HubKey[Callable[[], list[str]]]("urls")
# Where clients on other devices find its API.
CLIENT_URLS: Final = HubKey[Callable[[], list[str]]]("client_urls")


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`api:`: where to listen, what a client may send, and whom to believe."""

    host: str
    port: int
    tls: TlsConfig | None
    request_bytes: int
    connections: int
    connections_per_ip: int
    requests_per_owner: int | None
    upload_per_owner_bytes: int | None
    login_attempts: int
    ip_ban_s: float | None
    use_x_forwarded_for: bool
    trusted_proxies: tuple[IPNetwork, ...]
    allowed_hosts: tuple[str, ...]
    cors_allowed_origins: tuple[str, ...]
    public_url: str | None


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
        cv.Key("tls", default=None, reloadable=False): cv.optional(TLS_SCHEMA),
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
            vol.All(False, lambda _off: None),
            cv.positive_duration,
            msg="expected false or a duration above 0, such as 1h",
        ),
        cv.Key("use_x_forwarded_for", default=True, reloadable=True): cv.boolean,
        cv.Key("trusted_proxies", default=list, reloadable=True): cv.sequence(_network),
        cv.Key("allowed_hosts", default=list, reloadable=True): cv.sequence(cv.host),
        cv.Key("cors_allowed_origins", default=list, reloadable=True): cv.sequence(origin),
        cv.Key("public_url", default=None, reloadable=True): cv.optional(origin),
    },
    ApiConfig,
)


async def async_setup(hub: Hub, config: ApiConfig) -> bool:
    """Bind the port at once, to report a port in use now; serve once everything has started."""
    bounds = config
    hub.endpoints.add_command(get_config(hub))
    hub.endpoints.add_view(
        system_view(
            hub,
            lambda: {
                "request": bounds.request_bytes, "connections": bounds.connections,
                "connections_per_ip": bounds.connections_per_ip,
                "requests_per_owner": bounds.requests_per_owner,
                "upload_per_owner": bounds.upload_per_owner_bytes,
            },
        )
    )  # fmt: skip
    tokens = await tokens_of(hub, hub.storage_path(TOKENS_FILE))
    logins = Logins(
        hub.clock, config.login_attempts, config.ip_ban_s, config.trusted_proxies,
        use_x_forwarded_for=config.use_x_forwarded_for,
    )  # fmt: skip
    connections = Connections(
        config.connections, config.connections_per_ip, logins.is_proxy,
        keepalive_timeout=KEEP_ALIVE_S, lingering_time=LINGER_S, access_log=None,
    )  # fmt: skip
    requests, audit = RequestMetrics(), AuditLog(hub.storage_path(AUDIT_FILE), logins)
    for view in (
        *health_views(hub),
        *configuration_views(hub),
        *logger_views(hub),
        *description.views(hub),
        *config_views(hub, lambda: _is_loopback(config.host) and not bounds.trusted_proxies),
        metrics_view(hub, requests, connections),
        diagnostics_view(hub, WarningsKept.of(hub)),
    ):
        hub.endpoints.add_view(view)
    quotas = Quotas(hub.clock, config.requests_per_owner, config.upload_per_owner_bytes)
    cors = CrossOrigin(config.cors_allowed_origins)
    access = Access(tokens, hub.clock, logins, [config.host, *config.allowed_hosts], cors)
    certificate = None
    if config.tls is not None:

        def names() -> set[str]:
            return _names((config.host, *bounds.allowed_hosts))

        certificate = Certificate(config.tls, hub.config_dir, hub.clock, names)
        await certificate.load()
        hub.control.add_status("api", partial(_tls_status, certificate))
    elif (risk := _risk(config)) is not None:
        _LOGGER.warning("%s", risk)
        hub.repair_sources.append(partial(_repairs, risk))
    server = ApiServer(
        hub, access, connections, quotas, config.request_bytes, certificate, cors, requests, audit
    )  # fmt: skip
    server.bind(config.host, config.port)
    hub.services[URLS] = server.urls

    def client_urls() -> list[str]:
        if bounds.public_url is not None:
            return [bounds.public_url]
        pin = f"#sha256={certificate.pin.hex()}" if certificate and certificate.self_signed else ""
        return [f"{url}{pin}" for url in server.urls_for_others()]

    hub.services[CLIENT_URLS] = client_urls
    sessions = Sessions(hub, tokens, access, server.urls)
    for view in (*sessions.views(), *Links(hub, access).views()):
        hub.endpoints.add_view(view)
    hub.listens.add(_address(config))

    def apply(new: ApiConfig) -> None:
        nonlocal bounds
        bounds = new
        logins.bound(
            new.login_attempts, new.ip_ban_s, new.trusted_proxies,
            use_x_forwarded_for=new.use_x_forwarded_for,
        )  # fmt: skip
        connections.bound(new.connections, new.connections_per_ip)
        quotas.bound(new.requests_per_owner, new.upload_per_owner_bytes)
        cors.allow_only(new.cors_allowed_origins)
        access.allow_hosts([config.host, *new.allowed_hosts])
        server.bound(new.request_bytes)

    hub.reloaders["api"] = SimpleReloader(apply)
    # A request that came before the sandbox or the gateway's jobs are ready would be refused.
    hub.on_open(server.start)
    hub.on_stop(StopStage.INTAKE, "api", server.stop, timeout_s=4)
    return True


def preflight(site: "Site", config: ApiConfig) -> "Iterator[Obstacle]":
    """Yield what would keep it from serving, and who else could read along."""
    address = _address(config)
    listen = partial(listening, config.host, config.port)
    yield from site.refusal(partial(site.hold, address, listen), "port")
    yield from site.refusal(TokenFile(site.storage_path(TOKENS_FILE)).all)
    if config.tls is not None:
        yield from site.refusal(partial(config.tls.refuse, site.config_dir), "tls")
    yield from site.warning(_risk(config), "host")


def _repairs(risk: str) -> "Iterator[Repair]":
    from swarm_hub.repairs import Repair

    yield Repair(
        "api.open",
        "warning",
        "The API is open to the network without TLS",
        "Whoever is in that network can read every token and job, and then act in their place.",
        risk,
    )


def _risk(config: ApiConfig) -> str | None:
    if config.tls is not None or config.trusted_proxies or _is_loopback(config.host):
        return None
    return (
        f"The API listens on {config.host} without TLS: whoever is in that network can read every "
        "token and job; give it a certificate (api: tls), a proxy with one (api: trusted_proxies), "
        "or api: host: 127.0.0.1"
    )


def _address(config: ApiConfig) -> str:
    return f"{config.host}:{config.port}"


def _tls_status(certificate: Certificate) -> dict[str, Any]:
    return {
        "tls_fingerprint": f"sha256={certificate.pin.hex()}",
        "tls_ends_at": isoformat(certificate.ends_at),
    }


def _names(configured: tuple[str, ...]) -> set[str]:
    """Return the names and addresses by which clients may know this device."""
    own = socket.gethostname().lower()
    names = {"localhost", own, f"{own}.local", "127.0.0.1", "::1", *configured, *interface_ips()}
    return {name for name in names if name not in WILDCARDS and "%" not in name}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
