"""TLS: `tls:` of the configuration, and the certificate in use, which is renewed with its files."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import voluptuous as vol

from swarm_hub.const import STORAGE_DIR, TLS_CERTIFICATE_FILE, TLS_KEY_FILE
from swarm_hub.exceptions import HubError, SetupError
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.clock import Clock, isoformat
from swarm_hub.util.files import file_stamp
from swarm_hub.util.key_pin import load_certificate, pin_of_file

_LOGGER = logging.getLogger(__name__)

# Two calls of `stat`, and only when somebody connects: a hub at rest does not wake up for it.
_LOOK_EVERY_S: Final = 1.0
_SELF_SIGNED_EVERY_S: Final = 86400.0
_ENDS_SOON_S: Final = 14 * 86400
_PATH_MAX_CHARS: Final = 1024


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """`api: tls:`: the files of a certificate, relative to the configuration directory."""

    certificate: str
    key: str
    self_signed: bool

    def refuse(self, config_dir: Path) -> None:
        """Raise SetupError if the files can't be used; changes nothing."""
        certificate, key = config_dir / self.certificate, config_dir / self.key
        if not self.self_signed:
            _load(certificate, key)
        elif key.exists():
            # A certificate that does not fit the key is made anew.
            from swarm_hub.components.api.self_signed import load_key

            load_key(key)


def _one_of_both(
    certificate: str | None = None, key: str | None = None, self_signed: bool = False
) -> TlsConfig:
    if self_signed:
        for name, value in (("certificate", certificate), ("key", key)):
            if value is not None:
                raise vol.Invalid("a self_signed certificate has its own files", path=[name])
        names = (TLS_CERTIFICATE_FILE, TLS_KEY_FILE)
        certificate, key = (f"{STORAGE_DIR}/{name}" for name in names)
    if certificate is None and key is None:
        raise vol.Invalid("expected certificate: and key:, or self_signed: true")
    if certificate is None or key is None:
        given, lacking = ("certificate", "key") if key is None else ("key", "certificate")
        raise vol.Invalid(f"{lacking}: is needed beside it", path=[given])
    return TlsConfig(certificate, key, self_signed)


TLS_SCHEMA: Final = cv.section(
    {
        cv.Key("certificate", reloadable=False): cv.text(_PATH_MAX_CHARS, 1),
        cv.Key("key", reloadable=False): cv.text(_PATH_MAX_CHARS, 1),
        cv.Key("self_signed", reloadable=False): cv.boolean,
    },
    _one_of_both,
)


class Certificate:
    """The certificate in use; a renewed one that can't be used leaves the old one in its place."""

    def __init__(
        self, config: TlsConfig, config_dir: Path, clock: Clock, names: Callable[[], set[str]]
    ) -> None:
        self._paths = config_dir / config.certificate, config_dir / config.key
        self.self_signed = config.self_signed
        self._clock = clock
        self._names = names
        self._context: ssl.SSLContext | None = None
        self._stamps: Any = None
        self._looked_at = float("-inf")
        self._made_at = float("-inf")
        self._looking = asyncio.Lock()
        self.pin = b""
        self.ends_at = 0.0

    async def load(self) -> None:
        """Load it for the first time; raises SetupError that says what is wrong with it."""
        await self._refresh()
        _LOGGER.info(
            "The key of the API's certificate, which ends %s, is sha256=%s",
            isoformat(self.ends_at), self.pin.hex(),
        )  # fmt: skip

    async def context(self) -> ssl.SSLContext:
        """Return what the next handshake is made with."""
        if self._clock.monotonic() - self._looked_at >= _LOOK_EVERY_S:
            async with self._looking:
                if self._clock.monotonic() - self._looked_at >= _LOOK_EVERY_S:
                    await self._look()
        assert self._context is not None
        return self._context

    async def _look(self) -> None:
        try:
            renewed = await self._refresh()
        except (HubError, OSError) as error:
            _LOGGER.error("The API keeps its certificate, the renewed one is of no use: %s", error)
        else:
            if renewed:
                _LOGGER.info("The API has a renewed certificate, until %s", isoformat(self.ends_at))

    async def _refresh(self) -> bool:
        """Load the pair if its files are others than before; returns whether they were."""
        now = self._clock.monotonic()
        self._looked_at = now
        if self.self_signed and now - self._made_at >= _SELF_SIGNED_EVERY_S:
            await asyncio.to_thread(self._renew)
            self._made_at = now
        stamps = [file_stamp(path) for path in self._paths]
        if stamps == self._stamps:
            return False
        # Whatever is wrong with these files is said once.
        self._stamps = stamps
        self._context, self.pin, self.ends_at = await asyncio.to_thread(_load, *self._paths)
        left_s = self.ends_at - self._clock.time()
        if left_s < _ENDS_SOON_S:
            _LOGGER.warning(
                "The API's certificate %s at %s; renew %s",
                "ends" if left_s > 0 else "has ended", isoformat(self.ends_at), self._paths[0],
            )  # fmt: skip
        return True

    def _renew(self) -> None:
        # What makes certificates is 20 modules that only such a hub needs.
        from swarm_hub.components.api.self_signed import renew_self_signed

        renew_self_signed(*self._paths, self._names(), self._clock.time())


def _load(certificate: Path, key: Path) -> tuple[ssl.SSLContext, bytes, float]:
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise SetupError(
                f"{path}: can't be read: {error.strerror} (api → tls → {name})"
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without it OpenSSL would ask at the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
        pin = pin_of_file(certificate)
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            why = f"the key in {key} is of another certificate"
        else:
            why = f"the certificate, or its key in {key}, can't be used: {error}"
        raise SetupError(
            f"{certificate}: {why}; both are PEM files, the key without a passphrase (api → tls)"
        ) from error
    return context, pin, load_certificate(certificate).not_valid_after_utc.timestamp()
