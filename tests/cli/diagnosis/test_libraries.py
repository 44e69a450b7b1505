"""What the configured roles import is really imported, and nothing else is asked for."""

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from swarm_hub.cli.diagnosis import libraries as diagnosis
from swarm_hub.cli.diagnosis.libraries import libraries, mended_by

WORKER = "worker:\nmesh: {mdns: false}\n"
GATEWAY = "gateway:\napi:\n"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let imports take longer here than a user would want to wait."""
    monkeypatch.setattr(diagnosis, "_WITHIN_S", 120.0)


def broken(monkeypatch: pytest.MonkeyPatch, folder: Path, module: str, error: str) -> None:
    """Have a module of the processes started here fail to be imported."""
    package = folder / "broken" / module
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"raise {error}\n")
    path = os.pathsep.join([str(package.parent), str(Path.cwd())])
    monkeypatch.setenv("PYTHONPATH", path)


def missing(module: str) -> str:
    return f"ModuleNotFoundError('No module named {module}', name={module!r})"


def hub(folder: Path, yaml: str) -> Path:
    (folder / "configuration.yaml").write_text(yaml)
    return folder


@pytest.mark.parametrize("yaml", [WORKER, GATEWAY, WORKER + GATEWAY])
def test_a_whole_installation_is_ok(tmp_path: Path, yaml: str) -> None:
    (finding,) = libraries(hub(tmp_path, yaml))
    assert (finding.level, finding.subject) == ("ok", "libraries")
    assert "libp2p 0." in finding.text


def test_a_library_of_the_mesh_that_is_missing_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, tmp_path, "multiaddr", missing("multiaddr"))
    (finding,) = libraries(hub(tmp_path, WORKER))
    assert finding.level == "bad"
    assert finding.text.startswith("multiaddr: ")
    assert finding.command.endswith("-m pip install multiaddr")


def test_no_mesh_library_is_asked_of_a_hub_without_that_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, tmp_path, "multiaddr", missing("multiaddr"))
    (finding,) = libraries(hub(tmp_path, "gateway:\nmesh: {transport: loopback}\n"))
    assert finding.level == "ok"


@pytest.mark.parametrize(("yaml", "level"), [(WORKER, "ok"), (GATEWAY, "bad")])
def test_aiohttp_is_asked_only_of_a_hub_with_an_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yaml: str, level: str
) -> None:
    broken(monkeypatch, tmp_path, "aiohttp", missing("aiohttp"))
    assert {each.level for each in libraries(hub(tmp_path, yaml))} == {level}


def test_what_the_core_lacks_is_bad_whatever_the_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, tmp_path, "sqlalchemy", missing("sqlalchemy"))
    findings = libraries(hub(tmp_path, WORKER))
    assert {each.level for each in findings} == {"bad"}
    assert findings[0].text.startswith("sqlalchemy: ")


def test_a_library_that_can_not_be_loaded_is_bad_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, tmp_path, "multiaddr", "OSError('lib.so: wrong ELF class')")
    (finding,) = libraries(hub(tmp_path, WORKER))
    assert finding.level == "bad"
    assert "wrong ELF class" in finding.text


def test_a_library_that_ends_the_process_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, tmp_path, "multiaddr", "SystemExit(7)")
    (finding,) = libraries(hub(tmp_path, WORKER))
    assert finding.level == "bad"
    assert "exit code 7" in finding.text


def test_imports_that_take_too_long_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "_WITHIN_S", 0.01)
    (finding,) = libraries(hub(tmp_path, WORKER))
    assert (finding.level, "takes more than" in finding.text) == ("warn", True)


def test_on_a_phone_the_commands_are_those_of_termux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERMUX_VERSION", raising=False)
    assert mended_by("nacl.signing").endswith("-m pip install pynacl")
    monkeypatch.setenv("TERMUX_VERSION", "0.118")
    assert mended_by("cryptography") == "pkg install python-cryptography"
    monkeypatch.setattr(diagnosis.platform, "machine", lambda: "aarch64")
    wasmtime = mended_by("wasmtime")
    assert wasmtime.startswith(f"{sys.executable} -m pip install --no-deps --only-binary=:all: ")
    assert f"android_26_arm64_v8a --target {sysconfig.get_path('purelib')} " in wasmtime
    assert mended_by("trio").endswith("-m pip install --no-deps trio")
