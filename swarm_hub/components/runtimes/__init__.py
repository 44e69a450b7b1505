"""Runtimes: the interpreters of programs that are no Wasm modules, one for all jobs of a swarm."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import voluptuous as vol

from swarm_hub.components.mesh import MESH, Mesh, Readable
from swarm_hub.components.runtimes.preparation import Preparation
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.components.signer import SIGNER
from swarm_hub.components.telemetry import TELEMETRY
from swarm_hub.core import Hub, HubKey, SimpleReloader
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.bounds import shown
from swarm_hub.util.described import described, stands_for
from swarm_hub.util.extras import of_gateways
from swarm_hub.util.hashing import SHA256_HEX

if TYPE_CHECKING:
    from swarm_hub.components.runtimes.catalog import (
        Catalog,
        Runtime,
        hash_of,
        read_added,
        write_added,
    )
    from swarm_hub.components.runtimes.languages import LANGUAGES, language_of, register_language

__all__ = [
    "LANGUAGES",
    "RUNTIMES",
    "Catalog",
    "Runtime",
    "Runtimes",
    "Source",
    "hash_of",
    "language_of",
    "read_added",
    "register_language",
    "write_added",
]

__getattr__ = of_gateways(
    __name__,
    {
        "LANGUAGES": "languages",
        "Catalog": "catalog",
        "Runtime": "catalog",
        "hash_of": "catalog",
        "language_of": "languages",
        "read_added": "catalog",
        "register_language": "languages",
        "write_added": "catalog",
    },
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a runtime's module is; None for a package or a file leaves what its language says."""

    package: str | None = None
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RuntimesConfig:
    """`runtimes:`: where each is, and the bounds in which a worker compiles them ahead."""

    python: Source | bool
    javascript: Source | bool
    compile_time_s: float
    compile_memory_bytes: int
    cache_bytes: int


class Runtimes:
    """What a gateway offers, and how far a worker is with what it was offered: `preparation`."""

    def __init__(self, hub: Hub, config: RuntimesConfig, preparation: Preparation) -> None:
        self.preparation = preparation
        self._hub = hub
        self._config = config

    async def offer(self) -> "Catalog":
        """Find what there is on this hub, and have clients and workers asked about it."""
        from swarm_hub.components.runtimes.catalog import Catalog
        from swarm_hub.components.runtimes.languages import LANGUAGES
        from swarm_hub.components.runtimes.views import view

        hub, mesh = self._hub, self._hub.services[MESH]
        # One that a component of the owner's brings has no key: to be without it, be without that.
        catalog = Catalog({name: getattr(self._config, name, True) for name in LANGUAGES})
        await asyncio.to_thread(catalog.load, hub.storage_path(), hub.config_dir)
        mesh.serve_blobs(_blobs(mesh, catalog))
        hub.endpoints.add_view(view(catalog))
        return catalog


RUNTIMES: Final = HubKey[Runtimes]("runtimes")


@described({"type": "string", "pattern": SHA256_HEX.pattern.replace("\\Z", "$")})
def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not SHA256_HEX.match(value):
        raise vol.Invalid(f"expected a SHA-256 in 64 hex digits, got {shown(value)}")
    return value


def _whole(package: str | None, path: str | None, sha256: str | None) -> Source:
    if (package is None) == (path is None):
        raise vol.Invalid("expected either package: or path:")
    if path is not None and sha256 is None:
        raise vol.Invalid("sha256: is needed beside path: (see: swarm-hub runtime add)")
    return Source(package, path, sha256)


_SOURCE: Final = cv.section(
    {
        vol.Optional("package", default=None): cv.optional(cv.text(100, 1)),
        vol.Optional("path", default=None): cv.optional(cv.text(1024, 1)),
        vol.Optional("sha256", default=None): cv.optional(_sha256),
    },
    _whole,
)


@stands_for(vol.Any(bool, _SOURCE))
def _source(value: Any) -> Source | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return _SOURCE(value)
    raise vol.Invalid(
        "expected true, false, {package: NAME} or {path: FILE, sha256: HASH}, got " + shown(value)
    )


CONFIG_SCHEMA = cv.section(
    {
        cv.Key("python", default=True, reloadable=False): _source,
        cv.Key("javascript", default=True, reloadable=False): _source,
        cv.Key(
            "compile_time", default=600, reloadable=False, field="compile_time_s"
        ): cv.positive_duration,
        cv.Key(
            "compile_memory", default="768MiB", reloadable=False, field="compile_memory_bytes"
        ): cv.size,
        cv.Key("cache", default="256MiB", reloadable=False, field="cache_bytes"): cv.size,
    },
    RuntimesConfig,
)


async def async_setup(hub: Hub, config: RuntimesConfig) -> bool:
    """Have the preparation for a worker, and what a gateway may offer."""
    service = hub.services[SANDBOX]
    service.sandbox.compile_ahead(
        config.cache_bytes, config.compile_time_s, config.compile_memory_bytes
    )
    preparation = Preparation(
        hub,
        hub.services[MESH],
        hub.services[SIGNER],
        hub.services[TELEMETRY],
        service.sandbox,
        service.module_bytes_max,
        service.limits.memory_bytes,
    )
    hub.services[RUNTIMES] = Runtimes(hub, config, preparation)
    hub.reloaders["runtimes"] = SimpleReloader(
        lambda _config: preparation.bound(hub.services[SANDBOX].module_bytes_max)
    )
    return True


def _blobs(mesh: Mesh, catalog: "Catalog") -> Any:
    @asynccontextmanager
    async def serve(peer_id: str, sha: str) -> AsyncIterator[Readable | None]:
        """Give a runtime to admitted workers, which prepare it before they have a job of it."""
        runtime = catalog.by_sha(sha)
        hello: Mapping[str, Any] = {}
        if (peer := mesh.peers().get(peer_id)) is not None:
            hello = peer.capabilities
        yield await runtime.read() if runtime is not None and "worker" in hello else None

    return serve
