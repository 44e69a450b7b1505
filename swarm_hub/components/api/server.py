"""The HTTP server: routes, tokens, errors as `{message, code, errors}`."""

import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from swarm_hub.components.api import data, invites, jobs, nodes, system, websocket
from swarm_hub.components.api.access import Access
from swarm_hub.components.api.replies import error_response
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    HubError,
    RequestError,
    SetupError,
    StoreBusyError,
    StoreFullError,
    StoreUnavailableError,
)
from swarm_hub.helpers.tokens import TokenFile

_LOGGER = logging.getLogger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SHUTDOWN_S: Final = 2.0
_RETRY_AFTER_S: Final = 2


class ApiServer:
    """Serves the API of one hub."""

    def __init__(self, hub: Hub, tokens: TokenFile, request_max_bytes: int) -> None:
        self._hub = hub
        self._access = Access(tokens)
        self._sockets: list[socket.socket] = []
        self._request_max_bytes = request_max_bytes
        self._runner: web.AppRunner | None = None
        self._live = websocket.LiveClients(hub, self._access)

    def bind(self, host: str, port: int) -> None:
        """Take the port; raises SetupError with one clear line when it is in use."""
        try:
            bound = socket.create_server(
                (host, port), family=_family(host), backlog=512, reuse_port=False
            )
        except OSError as error:
            raise SetupError(
                f"can't listen on {host}:{port}: {os.strerror(error.errno or 0)}; another program "
                "(or another hub) uses the port, or the address is not this device's: "
                "change api: host or port"
            ) from error
        self._sockets.append(bound)

    async def start(self) -> None:
        """Serve requests."""
        application = web.Application(
            middlewares=[self._answer_errors, self._check_access],
            client_max_size=self._request_max_bytes,
        )
        application.add_routes(jobs.routes(self._hub, self._request_max_bytes))
        application.add_routes(nodes.routes(self._hub))
        application.add_routes(data.routes(self._hub))
        application.add_routes(invites.routes(self._hub))
        application.add_routes(system.routes(self._hub))
        application.add_routes([web.get("/api/websocket", self._live.handle)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        for bound in self._sockets:
            await web.SockSite(self._runner, bound).start()
            host, port = bound.getsockname()[:2]
            _LOGGER.info("API on http://%s:%d", host, port)

    async def stop(self) -> None:
        """Close every connection."""
        await self._live.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for bound in self._sockets:
            bound.close()

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestError as error:
            return error_response(error)
        except web.HTTPRequestEntityTooLarge:
            return error_response(
                RequestError(
                    413,
                    "request_too_large",
                    f"the request is larger than {self._request_max_bytes} bytes (api: request)",
                )
            )
        except web.HTTPException as error:
            return error_response(RequestError(error.status, "http", error.reason))
        except StoreFullError as error:
            return error_response(RequestError(507, "disk_full", str(error)))
        except (StoreBusyError, StoreUnavailableError) as error:
            return error_response(
                RequestError(503, "busy", str(error), retry_after_s=_RETRY_AFTER_S)
            )
        except HubError as error:
            _LOGGER.warning("%s %s failed: %s", request.method, request.path, error)
            return error_response(RequestError(500, "failed", str(error)))
        except Exception:
            _LOGGER.exception("%s %s failed", request.method, request.path)
            return error_response(RequestError(500, "internal", "an unexpected error; see the log"))

    @web.middleware
    async def _check_access(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        self._access.check(request)
        return await handler(request)


def _family(host: str) -> socket.AddressFamily:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return socket.AF_INET
    return socket.AF_INET6 if version == 6 else socket.AF_INET
