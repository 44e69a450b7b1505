"""Logins that fail: logged, slowed down, and banned by address if they go on."""

import asyncio
import ipaddress
import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from swarm_hub.exceptions import Forbidden
from swarm_hub.util.bounds import shown
from swarm_hub.util.clock import Clock

_LOGGER = logging.getLogger(__name__)

# Attempts longer ago than this are forgotten.
_FORGOTTEN_AFTER_S: Final = 900.0
_SLOWED_BY_S: Final = 0.1
_SLOWED_MAX_S: Final = 2.0
# Addresses that are remembered; the one that failed least recently is forgotten first.
_REMEMBERED_MAX: Final = 4096

_pause = asyncio.sleep
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True)
class _Failures:
    count: int
    at: float
    banned_until: float = 0.0


class Logins:
    """Counts failed logins by address.

    Banned is no address of this device itself: whoever is here can do more harm without an API.
    """

    def __init__(
        self,
        clock: Clock,
        attempts: int,
        banned_for_s: float | None,
        trusted_proxies: Sequence[IPNetwork],
        *,
        use_x_forwarded_for: bool,
    ) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self.bound(attempts, banned_for_s, trusted_proxies, use_x_forwarded_for=use_x_forwarded_for)

    def bound(
        self,
        attempts: int,
        banned_for_s: float | None,
        trusted_proxies: Sequence[IPNetwork],
        *,
        use_x_forwarded_for: bool,
    ) -> None:
        """Count and ban by these rules from now on; who is banned stays so."""
        self._attempts = attempts
        self._banned_for_s = banned_for_s
        self._trusted_proxies = tuple(trusted_proxies)
        self._use_x_forwarded_for = use_x_forwarded_for

    def is_proxy(self, ip: str) -> bool:
        """Whether requests from there carry the address of whom they are from."""
        address = _address(ip)
        return address is not None and any(address in network for network in self._trusted_proxies)

    def address_of(self, request: web.Request) -> str:
        """Return whom a request is from; X-Forwarded-For counts as far as proxies are trusted."""
        ip = request.remote or ""
        if not self._use_x_forwarded_for or not self.is_proxy(ip):
            return ip
        hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
        for hop in reversed(hops):
            if _address(hop) is None:
                break
            ip = hop
            if not self.is_proxy(hop):
                break
        return ip

    def check(self, request: web.Request) -> None:
        """Raise Forbidden for a request from a banned address."""
        if not self._failures:
            return
        found = self._failures.get(self.address_of(request))
        left_s = 0.0 if found is None else found.banned_until - self._clock.monotonic()
        if left_s > 0:
            raise Forbidden(
                "banned",
                "too many failed logins from this address (api: ip_ban); try again later",
                retry_after_s=math.ceil(left_s),
            )

    async def failed(self, request: web.Request) -> None:
        """Note a failed login, and let the client wait for its answer, each time longer."""
        ip, now = self.address_of(request), self._clock.monotonic()
        found = self._failures.pop(ip, None)
        if found is None or now - found.at > _FORGOTTEN_AFTER_S:
            found = _Failures(0, now)
        self._failures[ip] = found
        if len(self._failures) > _REMEMBERED_MAX:
            self._failures.popitem(last=False)
        found.count, found.at = found.count + 1, now
        _LOGGER.log(
            logging.WARNING if found.count <= self._attempts else logging.DEBUG,
            "Failed login from %s (%d): %s", ip, found.count, shown(request.path),
        )  # fmt: skip
        address = _address(ip)
        is_own = address is None or address.is_loopback
        if self._banned_for_s is not None and found.count >= self._attempts and not is_own:
            found.banned_until = now + self._banned_for_s
            _LOGGER.warning("Banned %s from the API for %.0f s", ip, self._banned_for_s)
        await _pause(min(_SLOWED_BY_S * found.count, _SLOWED_MAX_S))

    def succeeded(self, request: web.Request) -> None:
        """Forget what failed before a login that did not."""
        if self._failures:
            self._failures.pop(self.address_of(request), None)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
