"""Imports libp2p 0.8.1 without the parts this hub never uses: 34 MB and half a second less.

Importing any module of libp2p runs `libp2p/__init__.py`, which imports every transport, muxer,
security and discovery protocol it has, and with them 640 modules of aioquic, requests,
httpx, dnspython, pycryptodome, coincurve, zeroconf and others. Here those parts of libp2p
itself are replaced by stubs; third-party packages are never stubbed, so that no other code of
the process can meet a stub (`multiaddr.resolvers` is the one exception: it belongs to libp2p's
address type, and addresses are resolved by the hub). Some libraries have a stand-in while the one
that wants them is imported from here, and only then: for multihash blake3 and mmh3, whose hashes
nothing here asks for, and for libp2p psutil where it is not installed, have no wheel for Android;
libp2p wants cryptography's X.509 only for AutoTLS; and multiaddr wants of netaddr, which takes
9 MB, what `ipaddress` does as well (`ip_address.py`).
A stub can be imported, subclassed and named in `except` or `isinstance`; using it raises.
libp2p's Ed25519 keys are our own (`ed25519_keys.py`). In the place of its resource manager stands
`limits.py`, so of that only directions and errors are there.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import logging
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from swarm_hub.util.device import has_psutil

_KAD_DHT = "libp2p.kad_dht"
_MDNS = "libp2p.discovery.mdns"
STUBBED = (
    "libp2p.bitswap",
    "libp2p.crypto.ecc",
    "libp2p.crypto.rsa",
    "libp2p.crypto.secp256k1",
    "libp2p.discovery.bootstrap",
    _MDNS,
    "libp2p.discovery.random_walk",
    "libp2p.discovery.upnp",
    _KAD_DHT,
    "libp2p.metrics.swarm",
    "libp2p.peer.persistent",
    "libp2p.rcmgr.manager",
    "libp2p.relay",
    "libp2p.security.insecure",
    "libp2p.security.pnet",
    "libp2p.security.secio",
    "libp2p.security.tls",
    "libp2p.stream_muxer.mplex",
    "libp2p.transport.cmux",
    "libp2p.transport.quic",
    "libp2p.transport.webrtc",
    "libp2p.transport.websocket",
    "libp2p.transport.webtransport",
    "multiaddr.resolvers",
)
# These are constructed on the paths the hub uses, and only carried around there.
_INERT: dict[str, Sequence[str]] = {
    "libp2p.metrics.swarm": ("SwarmEvent",),
    "multiaddr.resolvers": ("DNSResolver",),
}
# Packages that are stubs themselves, with these names of modules in them, which are real.
_HOLLOW: Final[Mapping[str, Mapping[str, str]]] = {
    "libp2p.rcmgr": {"Direction": "libp2p.rcmgr.metrics"},
}
_HASHES = ("blake3", "mmh3")
_X509 = ("cryptography.x509", "cryptography.x509.oid")
_IP_CODECS = ("multiaddr.codecs.ip4", "multiaddr.codecs.ip6")
_IP_ADDRESS = "swarm_hub.components.mesh.transports.libp2p.ip_address"
_ABSENT: Any = object()
# Modules of libp2p in the place of which ours are imported.
_REPLACED = {
    "libp2p.crypto.ed25519": "swarm_hub.components.mesh.transports.libp2p.ed25519_keys",
}
_lock = threading.Lock()


class _StubType(type):
    """The type of stub classes: any attribute exists and refuses to be called."""

    def __getattr__(cls, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_args: object, **_kwargs: object) -> NoReturn:
            raise NotImplementedError(f"{cls.__module__}.{cls.__name__}.{name} is stubbed out")

        return refuse


class _Stub(Exception, metaclass=_StubType):
    """Stands for a class of a part that is left out; an exception so that `except` takes it."""

    def __class_getitem__(cls, _item: object) -> type:
        return cls

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise NotImplementedError(f"{type(self).__module__}.{type(self).__name__} is stubbed out")


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of the stubbed parts with empty modules."""

    def __init__(self) -> None:
        self.parts = set(STUBBED)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if any(fullname == part or fullname.startswith(part + ".") for part in self.parts):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if fullname in _REPLACED:
            return importlib.machinery.ModuleSpec(fullname, _ReplacingLoader())
        if fullname in _HOLLOW:
            real = importlib.machinery.PathFinder.find_spec(fullname, path)
            spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
            spec.submodule_search_locations = real.submodule_search_locations if real else None
            return spec
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _stub_module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing runs: attributes are made when they are asked for."""


def _stub_module(module_name: str) -> types.ModuleType:
    module = types.ModuleType(module_name, "What this hub leaves out.")
    inert, real = _INERT.get(module_name, ()), _HOLLOW.get(module_name, {})

    def stub(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in real:
            made = getattr(importlib.import_module(real[name]), name)
        elif name in inert:
            made = type(name, (types.SimpleNamespace,), {"__module__": module_name})
        else:
            made = _StubType(name, (_Stub,), {"__module__": module_name})
        setattr(module, name, made)
        return made

    module.__dict__["__getattr__"] = stub
    return module


class _ReplacingLoader(importlib.abc.Loader):
    """Fills a module of libp2p with what one of ours offers instead."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: types.ModuleType) -> None:
        ours = importlib.import_module(_REPLACED[module.__name__])
        module.__dict__.update((name, getattr(ours, name)) for name in ours.__all__)


_finder = _StubFinder()


def import_libp2p() -> None:
    """Import what the hub uses of libp2p; complete imports made earlier stay as they are."""
    with _lock:
        if "libp2p" in sys.modules:
            return
        # The finder stays, because libp2p also imports inside functions.
        sys.meta_path.insert(0, _finder)
        if "multihash" not in sys.modules:
            # A hash without its library is one that is not available.
            with _standing_in({name: types.ModuleType(name) for name in _HASHES}):
                importlib.import_module("multihash")
        with _standing_in({"netaddr": importlib.import_module(_IP_ADDRESS)}):
            for name in _IP_CODECS:
                importlib.import_module(name)
        left_out = {name: _stub_module(name) for name in _X509 if name not in sys.modules}
        if not has_psutil():
            # It is asked for interfaces and memory in ways that get on without an answer.
            left_out["psutil"] = types.ModuleType("psutil")
        with _standing_in(left_out):
            importlib.import_module("libp2p")
        _silence()


def import_mdns() -> types.ModuleType:
    """Import libp2p's mDNS, replacing its stub."""
    return _import_whole(_MDNS, "mdns")


def import_kad_dht() -> types.ModuleType:
    """Import libp2p's Kademlia, replacing its stub; 0.3 MB and 15 ms."""
    return _import_whole(_KAD_DHT, "kad_dht")


def _import_whole(part: str, name: str) -> types.ModuleType:
    import_libp2p()
    with _lock:
        if part in _finder.parts and _finder in sys.meta_path:
            _finder.parts.remove(part)
            for one in [one for one in sys.modules if one == part or one.startswith(part + ".")]:
                del sys.modules[one]
        module = importlib.import_module(f"{part}.{name}")
        _silence()
        return module


@contextlib.contextmanager
def _standing_in(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Have these be imported under their names now, by nobody else and never again."""
    before = {name: sys.modules.get(name, _ABSENT) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is _ABSENT:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _silence() -> None:
    """Turn the library's log off: it calls ordinary disconnects errors.

    What matters is reported by the transport. Some of its modules set a level of their own.
    """
    for name in logging.root.manager.loggerDict:
        if name.startswith("libp2p."):
            logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
