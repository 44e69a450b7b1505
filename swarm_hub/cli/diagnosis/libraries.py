"""Whether everything that the configured roles import can be imported, natively too.

It is tried in a process of its own: a library that crashes, hangs or takes the last of the memory
harms nobody there, and nothing that `doctor` itself imported hides what is missing. That process is
this module: `python -m swarm_hub.cli.diagnosis.libraries DIRECTORY`.
"""

import importlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarm_hub.cli.diagnosis import Finding
from swarm_hub.cli.diagnosis.android import is_android

_WITHIN_S: Final = 8.0
_NAMED: Final = ("libp2p", "wasmtime", "aiohttp", "sqlalchemy", "pynacl", "psutil")
# What a fresh device is made to be.
_DEFAULT_ROLES: Final = ("api", "gateway", "worker")
# Where the distribution is not called as the module is.
_DISTRIBUTIONS: Final = {
    "Crypto": "pycryptodome",
    "google": "protobuf",
    "multihash": "py-multihash",
    "nacl": "pynacl",
    "noise": "noiseprotocol",
    "yaml": "pyyaml",
}
# What pip can't build or find for Termux by itself.
_BUILT_FOR_TERMUX: Final = {
    "_cffi_backend": "pkg install libffi clang && {pip} cffi",
    "cryptography": "pkg install python-cryptography",
    "wasmtime": "{pip} --no-deps --only-binary=:all: --platform {platform} --target {site} "
    "wasmtime",
}


def libraries(config_dir: Path) -> list[Finding]:
    """Import what a hub of this configuration imports."""
    command = [sys.executable, "-m", __name__, str(config_dir)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
        said = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        text = f"importing them takes more than {_WITHIN_S:.0f} s on this device"
        return [Finding("warn", "libraries", text, " ".join(command))]
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        text = f"importing them ended the process: {last}"
        return [Finding("bad", "libraries", text, " ".join(command))]
    if not said["failed"]:
        return [Finding("ok", "libraries", ", ".join(said["versions"]))]
    return [
        Finding("bad", "libraries", f"{name}: {why}", mended_by(name))
        for name, why in said["failed"].items()
    ]


def mended_by(module: str) -> str:
    """Return the command that installs the library of a module."""
    top = module.partition(".")[0]
    if top == "swarm_hub":
        return "python -m pip install --force-reinstall swarm-hub"
    pip = f"{sys.executable} -m pip install"
    if not is_android():
        return f"{pip} {_DISTRIBUTIONS.get(top, top)}"
    # What the others name besides is not needed, and much of it has no wheel there.
    command = _BUILT_FOR_TERMUX.get(top, f"{{pip}} --no-deps {_DISTRIBUTIONS.get(top, top)}")
    machine = "x86_64" if platform.machine() == "x86_64" else "arm64_v8a"
    site = sysconfig.get_path("purelib")
    return command.format(pip=pip, platform=f"android_26_{machine}", site=site)


def _tried(config_dir: Path) -> dict[str, str]:
    """Return what could not be imported, by its name, and why."""
    failed: dict[str, str] = {}
    for name in _modules(config_dir, failed):
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed[error.name or name] = str(error)
        except Exception as error:
            # A library that came in pieces raises whatever it meets first.
            failed[name] = f"it can't be loaded: {error!r}"
    return failed


def _modules(config_dir: Path, failed: dict[str, str]) -> Iterator[str]:
    """Yield what to import, in order; what is chosen depends on what could be imported before."""
    yield "swarm_hub.bootstrap"
    # A new database is made by it.
    yield "swarm_hub.storage.migrations.runner"
    if failed:
        # Nothing can be read; each component says what it lacks.
        for domain in (*_DEFAULT_ROLES, "mesh", "signer", "sandbox", "telemetry", "gc"):
            yield f"swarm_hub.components.{domain}"
        return
    from swarm_hub.config import read_configuration
    from swarm_hub.exceptions import HubError
    from swarm_hub.loader import ComponentIndex

    transport, wanted = "libp2p", set(_DEFAULT_ROLES)
    index = ComponentIndex(config_dir)
    try:
        configuration = read_configuration(config_dir, "hub")
        wanted = {each for each in configuration.sections if index.manifest(each) is not None}
        mesh = configuration.sections.get("mesh")
        transport = (mesh or {}).get("transport", transport)
        if configuration.storage.shared:
            yield "swarm_hub.storage.engine.postgres"
    except (HubError, AttributeError):
        pass  # Another check says what is wrong with it.
    for manifest in index.order(wanted or set(_DEFAULT_ROLES)):
        try:
            manifest.import_component()
        except HubError as error:
            cause = error.__cause__
            name = cause.name if isinstance(cause, ImportError) else None
            failed[name or manifest.domain] = str(cause or error)
    if "mesh" not in failed:
        # Both come only with the start of a mesh.
        yield "cryptography.hazmat.primitives.ciphers.aead"
        try:
            from swarm_hub.components.mesh import load_libraries

            load_libraries(transport)
        except ImportError as error:
            failed[error.name or "libp2p"] = str(error)
        except Exception as error:
            failed["libp2p"] = f"it can't be loaded: {error!r}"


def _versions() -> Iterator[str]:
    for name in _NAMED:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue  # Not needed here, or said to be missing.


if __name__ == "__main__":
    tried = {"failed": _tried(Path(sys.argv[1])), "versions": list(_versions())}
    sys.stdout.write(json.dumps(tried) + "\n")
