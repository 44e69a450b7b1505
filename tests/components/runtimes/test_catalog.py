"""Which file is the runtime of a language: that of the configuration, of `add`, of a package."""

import asyncio
import dataclasses
import hashlib
from pathlib import Path

import pytest

from swarm_hub.components.runtimes.catalog import (
    Catalog,
    Source,
    find,
    hash_of,
    read_added,
    write_added,
)
from swarm_hub.components.runtimes.languages import LANGUAGES
from swarm_hub.exceptions import HubError, InvalidSpec

SHA = hashlib.sha256(b"wasm").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.wasm"
    path.write_bytes(b"wasm")
    return path


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_packages_have_what_is_pinned(name: str, tmp_path: Path) -> None:
    found = find(name, True, {}, tmp_path)
    assert found is not None
    assert hash_of(found.path) == found.sha == LANGUAGES[name].sha256
    assert len(asyncio.run(found.read())) == found.size_bytes
    assert found.origin.startswith(LANGUAGES[name].package)


def test_what_the_configuration_says_comes_before_what_was_added(
    file: Path, tmp_path: Path
) -> None:
    added = {"python": {"path": str(file), "sha256": SHA}}
    found = find("python", True, added, tmp_path)
    assert found is not None
    assert (found.path, found.sha, found.size_bytes) == (file, SHA, 4)
    other = tmp_path / "other.wasm"
    other.write_bytes(b"other")
    found = find("python", Source(path="other.wasm", sha256=hash_of(other)), added, tmp_path)
    assert found is not None
    assert found.path == other


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source(path="own.wasm", sha256="0" * 64), f"has the SHA-256 {SHA}, expected {'0' * 64}"),
        (Source(path="none.wasm", sha256=SHA), "can't be read"),
        (Source(package="no-such-package"), "pip install no-such-package"),
        (Source(package="click"), "has 0 modules, expected one"),
        (False, "switched off"),
    ],
)
def test_a_file_that_is_not_it_is_not_used(
    file: Path, tmp_path: Path, source: Source | bool, said: str
) -> None:
    with pytest.raises(HubError, match=said):
        find("python", source, {}, tmp_path)
    catalog = Catalog({"python": source, "javascript": False})
    catalog.load(tmp_path, tmp_path)
    assert catalog.offer() == {}
    with pytest.raises(InvalidSpec, match=f"no python runtime: .*{said}"):
        catalog.get("python")


def test_a_file_that_changed_since_the_start_is_refused(file: Path, tmp_path: Path) -> None:
    found = find("python", True, {"python": {"path": str(file), "sha256": SHA}}, tmp_path)
    assert found is not None
    assert asyncio.run(found.read()) == b"wasm"
    file.write_bytes(b"masw")
    with pytest.raises(HubError, match="has changed since this hub started"):
        asyncio.run(found.read())


def test_a_package_with_another_module_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = dataclasses.replace(LANGUAGES["javascript"], sha256="0" * 64)
    monkeypatch.setitem(LANGUAGES, "javascript", wrong)  # type: ignore[arg-type]
    found = find("javascript", True, {}, tmp_path)
    assert found is not None
    with pytest.raises(HubError, match="its package is not the one with the SHA-256 0000"):
        asyncio.run(found.read())


def test_what_was_added_is_kept_and_what_is_no_such_note_is_left_out(tmp_path: Path) -> None:
    assert read_added(tmp_path) == {}
    note = {"path": "/x.wasm", "sha256": SHA}
    write_added(tmp_path, {"python": note, "cobol": note, "javascript": {"path": 5}})
    assert read_added(tmp_path) == {"python": note}
    (tmp_path / "runtimes.json").write_text("[1]")
    with pytest.raises(HubError, match=r"runtimes\.json can't be read"):
        read_added(tmp_path)
