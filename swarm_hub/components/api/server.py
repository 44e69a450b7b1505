"""The HTTP server: what is registered as a view is served, and all errors have one shape."""

import asyncio
import ipaddress
import logging
import os
import re
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from swarm_hub.components.api import adapter
from swarm_hub.components.api.access import Access
from swarm_hub.components.api.answering import Answering
from swarm_hub.components.api.audit import AuditLog
from swarm_hub.components.api.connections import SERVER_NAME, Connection, Connections
from swarm_hub.components.api.cors import CrossOrigin
from swarm_hub.components.api.errors import (
    ClientGone,
    MethodNotAllowed,
    as_request_error,
    error_response,
)
from swarm_hub.components.api.live import LiveClients
from swarm_hub.components.api.metrics import RequestMetrics
from swarm_hub.components.api.quotas import Quotas
from swarm_hub.components.api.tls import Certificate
from swarm_hub.components.api.tls_listener import TlsListener
from swarm_hub.const import API_ROOT, API_SOCKET, WEBSOCKET_PATH
from swarm_hub.core import Hub, HubState
from swarm_hub.endpoints import Scope
from swarm_hub.exceptions import (
    HubError,
    NotFound,
    RequestError,
    SetupError,
    TooLarge,
    Unavailable,
)
from swarm_hub.util.device import interface_ips
from swarm_hub.util.unix_socket import bind_private

_LOGGER = logging.getLogger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SHUTDOWN_S: Final = 2.0
_BACKLOG: Final = 512
# As nginx counts them; HTTP has no status that nobody reads.
_CLIENT_GONE: Final = 499
WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_LOOPBACK: Final = re.compile(r"//(localhost|127\.|\[::1\])")
# How long the rest of a refused body is read, so that a client which is still sending sees why.
LINGER_S: Final = 2.0


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raises SetupError with one clear line."""
    try:
        return socket.create_server(
            (host, port), family=_family(host), backlog=_BACKLOG, reuse_port=False
        )
    except OSError as error:
        raise SetupError(
            f"can't listen on {host}:{port}: {os.strerror(error.errno or 0)}; another program "
            "(or another hub) uses the port, or the address is not this device's: "
            "change api: host or port"
        ) from error


class ApiServer:
    """Serves the API of one hub."""

    def __init__(
        self,
        hub: Hub,
        access: Access,
        connections: Connections,
        quotas: Quotas,
        request_max_bytes: int,
        certificate: Certificate | None,
        cors: CrossOrigin,
        requests: RequestMetrics,
        audit: AuditLog,
    ) -> None:
        self._hub = hub
        self._access = access
        self._certificate = certificate
        self._cors = cors
        self._requests = requests
        self._audit = audit
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server | TlsListener] = []
        self._connections = connections
        self._quotas = quotas
        self._request_max_bytes = request_max_bytes
        self._runner: web.AppRunner | None = None
        self._answering = Answering(hub.store)
        self._live = LiveClients(hub, self._access, quotas, audit, self._answering)
        # Of each path as it was registered, with the names of its parameters.
        self._methods: defaultdict[str, frozenset[str]] = defaultdict(frozenset)

    def bind(self, host: str, port: int) -> None:
        """Bind the port; raises SetupError with one clear line when it is in use."""
        self._sockets.append(listening(host, port))

    def bound(self, request_max_bytes: int) -> None:
        """Take the requests to come up to this size."""
        self._request_max_bytes = request_max_bytes

    def urls(self) -> list[str]:
        """Return the addresses at which browsers find this hub, those of this device first."""
        scheme = "http" if self._certificate is None else "https"
        found = []
        for bound in self._sockets:
            host, port = bound.getsockname()[:2]
            hosts = [host]
            if host in WILDCARDS:
                # A link-local address of IPv6 means nothing without the reader's own interface.
                ips = [ip for ip in interface_ips() if (":" in ip) == (":" in host)]
                hosts = ["localhost", *(ip for ip in ips if not ip.startswith("fe80:"))]
            found += [f"{scheme}://{_bracketed(each)}:{port}" for each in hosts]
        return sorted(dict.fromkeys(found), key=lambda url: not _LOOPBACK.search(url))

    def urls_for_others(self) -> list[str]:
        """Return the addresses of use to other devices; all of them if there are no others."""
        found = self.urls()
        return [url for url in found if not _LOOPBACK.search(url)] or found

    async def start(self) -> None:
        """Serve requests."""
        application = web.Application(
            middlewares=[self._answer_errors], client_max_size=self._request_max_bytes
        )
        application.add_routes(
            adapter.route(
                view, self._access, self._quotas, lambda: self._request_max_bytes, self._answering
            )
            for view in self._hub.endpoints.views
        )
        application.add_routes([web.get(WEBSOCKET_PATH, self._live.handle)])
        for resource in application.router.resources():
            methods = {route.method for route in resource}
            self._methods[resource.canonical] = self._methods[resource.canonical] | methods
        application.on_response_prepare.append(self._finish_headers)
        self._runner = web.AppRunner(application, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections.serve_by(self._runner.server)
        for bound in self._sockets:
            self._servers.append(await self._serve(bound))
            host, port = bound.getsockname()[:2]
            scheme = "http" if self._certificate is None else "https"
            _LOGGER.info("API on %s://%s:%d", scheme, _bracketed(host), port)
        await self._serve_own_user()

    async def _serve(self, bound: socket.socket) -> asyncio.Server | TlsListener:
        if self._certificate is not None:
            bound.listen(_BACKLOG)
            return TlsListener(bound, self._certificate, self._connections, self._hub.tasks)
        return await asyncio.get_running_loop().create_server(
            self._connections, sock=bound, backlog=_BACKLOG
        )

    async def _serve_own_user(self) -> None:
        """Serve on the unix socket as well; the command line can do without it."""
        path = self._hub.config_dir / API_SOCKET
        try:
            # The hub holds the directory's lock, so nobody listens on what is left there.
            bound = bind_private(path)
            self._servers.append(
                await asyncio.get_running_loop().create_unix_server(
                    self._connections, sock=bound, backlog=_BACKLOG
                )
            )
        except (OSError, HubError) as error:
            _LOGGER.warning("There is no API on the unix socket %s: %s", path, error)

    async def stop(self) -> None:
        """Close every connection."""
        for server in self._servers:
            server.close()
        self._connections.close()
        await self._live.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for bound in self._sockets:
            bound.close()
        self._audit.close()
        (self._hub.config_dir / API_SOCKET).unlink(missing_ok=True)

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.begin(request)
        began = time.monotonic()
        try:
            response = await self._answered(request, handler)
        finally:
            connection.end()
        self._audit.request(request, response.status)
        resource = request.match_info.route.resource
        if not isinstance(response, web.WebSocketResponse):
            self._requests.answered(
                request.method, None if resource is None else resource.canonical,
                response.status, time.monotonic() - began,
            )  # fmt: skip
        return response

    async def _answered(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if self._cors.is_preflight(request):
                self._access.check_source(request)
                return self._cors.answer(request)
            if request.match_info.http_exception is not None:
                # A client without a token does not even learn which paths exist.
                await self._access.admit(request, Scope.READ)
            return await handler(request)
        except web.HTTPException as error:
            return self._answer_http(request, error)
        except ClientGone as error:
            _LOGGER.debug("%s %s: the client left: %s", request.method, request.path, error)
            # aiohttp wants an answer, and sends it to nobody.
            return web.Response(status=_CLIENT_GONE)
        except Exception as error:
            told = as_request_error(error)
            if told is None:
                _LOGGER.exception("%s %s failed", request.method, request.path)
                told = RequestError("internal", "an unexpected error; see the log")
            elif not isinstance(error, RequestError):
                _LOGGER.warning("%s %s failed: %s", request.method, request.path, error)
            return error_response(told)

    async def _finish_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = SERVER_NAME
        if self._hub.state is HubState.STOPPING:
            # What its client asks next, another gateway has to be asked.
            response.force_close()
        self._cors.allow(request, response)

    def _answer_http(self, request: web.Request, error: web.HTTPException) -> web.Response:
        """Turn aiohttp's own refusals into our shape."""
        match error:
            case web.HTTPRequestEntityTooLarge():
                return error_response(
                    TooLarge(
                        "request_too_large",
                        f"the request is larger than {self._request_max_bytes} bytes "
                        "(api: request)",
                    )
                )
            case web.HTTPMethodNotAllowed():
                # A path without names may fit one with names, too.
                methods = self._methods.get(request.path) or error.allowed_methods
                allowed = ", ".join(sorted({*methods, "OPTIONS"}))
                if request.method == "OPTIONS":
                    return web.Response(status=204, headers={"Allow": allowed})
                response = error_response(
                    MethodNotAllowed("method_not_allowed", f"{request.path} takes {allowed}")
                )
                response.headers["Allow"] = allowed
                return response
            case web.HTTPNotFound():
                return error_response(self._nothing_at(request.path))
            case _:
                return error_response(RequestError("http", error.reason), error.status)

    def _nothing_at(self, path: str) -> RequestError:
        domain = self._hub.endpoints.served_by(path.removeprefix(API_ROOT))
        if domain is None:
            return NotFound("not_found", f"there is nothing at {path}")
        return Unavailable(
            f"no_{domain}",
            f"{path} needs {domain}:, which does not run on this hub; ask a hub that has it, or "
            f"add {domain}: here",
        )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> socket.AddressFamily:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return socket.AF_INET
    return socket.AF_INET6 if version == 6 else socket.AF_INET
