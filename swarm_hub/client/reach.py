"""How a client reaches a hub: by TCP, with TLS and a pinned key, or by the socket on its device."""

import asyncio
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote

import aiohttp

from swarm_hub.client.errors import ClientError
from swarm_hub.credentials import read_address
from swarm_hub.exceptions import HubError
from swarm_hub.util.key_pin import parse_pin, pin_of_der
from swarm_hub.util.unix_socket import short_address

_UNIX: Final = "unix://"
# A unix socket has no host name; the hub knows itself by this one.
_UNIX_BASE: Final = "http://localhost"


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a hub is: `base` is what paths are appended to."""

    # As it is told to the user, without the pin.
    url: str
    base: str
    pin: bytes | None = None
    socket: Path | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an address such as `kitchen`, `https://host:8470#sha256=…` or `unix:///…/api.sock`.

        Raises ClientError that says what is wrong with it.
        """
        try:
            address = read_address(url)
        except HubError as error:
            raise ClientError(f"the address of a hub: {error}") from None
        plain, has_pin, text = address.partition("#")
        plain = plain.rstrip("/")
        if plain.startswith(_UNIX):
            path = Path(unquote(plain.removeprefix(_UNIX)))
            return cls(plain, _UNIX_BASE, socket=path)
        if not has_pin:
            return cls(plain, plain)
        pin = parse_pin(text)
        if pin is None:
            raise ClientError(
                f"{text!r} is no fingerprint; expected sha256= and 64 hex digits, as "
                "`swarm-hub status` shows it on the hub's device"
            )
        if not plain.startswith("https://"):
            raise ClientError(f"{plain}: only an address with https:// has a fingerprint")
        return cls(plain, plain, pin=pin)

    @contextmanager
    def connector(self) -> Iterator[aiohttp.BaseConnector]:
        """Give what makes the connections; call it within a running loop."""
        if self.socket is not None:
            with short_address(self.socket) as address:
                yield aiohttp.UnixConnector(address)
        else:
            yield aiohttp.TCPConnector(ssl=True if self.pin is None else _PinnedKey(self.pin))


class _PinnedKey(aiohttp.Fingerprint):
    """Refuses every certificate but those of one key, before a byte is sent to it."""

    def check(self, transport: asyncio.Transport) -> None:
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        found = pin_of_der(certificate)
        if not hmac.compare_digest(found, self.fingerprint):
            host, port, *_ = transport.get_extra_info("peername")
            raise aiohttp.ServerFingerprintMismatch(self.fingerprint, found, host, port)
