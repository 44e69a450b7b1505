"""One HTTP request to an allowed host: no redirects, a bounded answer, a judged address."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, quote

from swarm_hub.components.automation.hosts import is_allowed, may_connect, port_of, split_url
from swarm_hub.const import __version__
from swarm_hub.exceptions import HubError
from swarm_hub.util.printable import printable

WITHIN_S: Final = 15.0
_BODY_WITHIN_S: Final = 1.0
_HEAD_MAX_BYTES: Final = 16 * 1024
_BODY_MAX_BYTES: Final = 16 * 1024
_SHOWN_CHARS: Final = 200
_URL_MAX_CHARS: Final = 8192
_SAFE: Final = "/?%:@!$&'()*+,;=~-._"
# Later it may be taken: too many requests, or a fault that the server does not put down to us.
_PASSING: Final = (408, 425, 429)


class TryAgain(HubError):
    """What may work later."""


async def call(content: Mapping[str, Any], hosts: Sequence[str], key: str) -> str:
    """Send a request and return what to say of the answer.

    `key` is its `Idempotency-Key`. Raises TryAgain for what may work later, HubError for what will
    not.
    """
    if len(content["url"]) > _URL_MAX_CHARS:
        raise HubError(f"its URL has more than {_URL_MAX_CHARS} characters")
    try:
        parts = split_url(content["url"])
        host, port = parts.hostname or "", port_of(parts)
    except ValueError as error:
        raise HubError(f"{error}") from None
    if not is_allowed(hosts, host, port):
        raise HubError(f"{host}:{port} is not among the allowed hosts")
    try:
        async with asyncio.timeout(WITHIN_S):
            address = await _address(host, port, hosts)
            status, told = await _exchange(parts, address, port, _request(parts, content, key))
    except TimeoutError:
        raise TryAgain(f"{host} did not answer within {WITHIN_S:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise TryAgain(f"{host}: its certificate is not trusted ({error.verify_message})") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise TryAgain(f"{host} can't be reached: {error}") from None
    said = f"{host} answered {status}"
    if 200 <= status < 300:
        return said
    if 300 <= status < 400:
        raise HubError(f"{said}; redirects are not followed")
    shown = printable(told.decode("utf-8", "replace"))[:_SHOWN_CHARS].replace("\n", " ")
    said = f"{said}: {shown}" if shown else said
    if status >= 500 or status in _PASSING:
        raise TryAgain(said)
    raise HubError(said)


async def _address(host: str, port: int, hosts: Sequence[str]) -> str:
    """Return the address to connect to, after it was judged: what is asked later may differ."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise TryAgain(f"{host} has no address ({error.strerror})") from None
    addresses = [str(each[4][0]) for each in found]
    for address in addresses:
        if may_connect(hosts, ipaddress.ip_address(address.partition("%")[0]), port):
            return address
    raise HubError(
        f"{host} is {addresses[0]}, a private address; allow it by address or network, too "
        f"(- allow: {{hosts: [{addresses[0]}]}})"
    )


def _request(parts: SplitResult, content: Mapping[str, Any], key: str) -> bytes:
    path = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_SAFE)
    body: bytes = content.get("body", "").encode()
    lines = [
        f"{content['method']} {path} HTTP/1.1", f"Host: {parts.netloc}",
        f"User-Agent: swarm-hub/{__version__}", "Connection: close", f"Idempotency-Key: {key}",
    ]  # fmt: skip
    headers = content.get("headers", {})
    if body or content["method"] in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
        if "content-type" not in {name.lower() for name in headers}:
            json = body.lstrip().startswith((b"{", b"["))
            kind = "application/json" if json else "text/plain; charset=utf-8"
            lines.append(f"Content-Type: {kind}")
    for name, text in headers.items():
        if any(ord(char) < 0x20 or ord(char) > 0x7E for char in text):
            raise HubError(f"the header {name} has a character that headers can't have")
        lines.append(f"{name}: {text}")
    head: bytes = "\r\n".join(lines).encode()
    return head + b"\r\n\r\n" + body


async def _exchange(
    parts: SplitResult, address: str, port: int, request: bytes
) -> tuple[int, bytes]:
    tls = None
    if parts.scheme == "https":
        # Reading the system's certificates takes a while.
        tls = await asyncio.to_thread(ssl.create_default_context)
    reader, writer = await asyncio.open_connection(
        address, port, ssl=tls, server_hostname=parts.hostname if tls else None,
        limit=_HEAD_MAX_BYTES,
    )  # fmt: skip
    try:
        # One that answers before it has read all, and closes, has answered.
        with contextlib.suppress(ConnectionError):
            writer.write(request)
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split(b" ", 2)[1] if head.startswith(b"HTTP/1.") else b""
        if len(status) != 3 or not status.isdigit():
            raise ValueError("it does not speak HTTP/1.1")
        told = bytearray()
        with contextlib.suppress(ConnectionError, TimeoutError):
            # What it says besides is for a person, and not worth a wait.
            async with asyncio.timeout(_BODY_WITHIN_S):
                while len(told) < _BODY_MAX_BYTES and (more := await reader.read(4096)):
                    told += more
        return int(status), bytes(told)
    finally:
        writer.close()
