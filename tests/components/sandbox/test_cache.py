"""The cache of native code believes only its own signature."""

import os
from pathlib import Path

import pytest

from swarm_hub.components.sandbox.cache import ModuleCache, cache_key
from swarm_hub.exceptions import HubError


@pytest.fixture
async def cache(tmp_path: Path) -> ModuleCache:
    return await opened(tmp_path)


async def opened(directory: Path, size_bytes_max: int = 10_000) -> ModuleCache:
    cache = ModuleCache(directory / "cache", size_bytes_max=size_bytes_max)
    await cache.open()
    return cache


def file_of(directory: Path, key: str) -> Path:
    return directory / "cache" / f"{key}.native"


async def test_what_is_put_is_got_also_after_a_restart(cache: ModuleCache, tmp_path: Path) -> None:
    await cache.put("a", b"native")
    assert await cache.get("a") == b"native"
    again = await opened(tmp_path)
    assert await again.get("a") == b"native"
    assert again.size_bytes == len(b"native") + 32


async def test_an_unknown_key_is_none(cache: ModuleCache) -> None:
    assert await cache.get("missing") is None


async def test_the_directory_and_the_key_are_private(cache: ModuleCache, tmp_path: Path) -> None:
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "cache" / "cache.key").stat().st_mode & 0o777 == 0o600
    await cache.put("a", b"native")
    assert file_of(tmp_path, "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", [0, 31, 32, 37])
async def test_a_changed_file_is_never_returned(
    cache: ModuleCache, tmp_path: Path, at: int
) -> None:
    await cache.put("a", b"native")
    content = bytearray(file_of(tmp_path, "a").read_bytes())
    content[at] ^= 1
    file_of(tmp_path, "a").write_bytes(content)
    assert await cache.get("a") is None
    assert not file_of(tmp_path, "a").exists()
    assert cache.size_bytes == 0


@pytest.mark.parametrize("length", [0, 10, 32, 37])
async def test_a_cut_file_is_never_returned(
    cache: ModuleCache, tmp_path: Path, length: int
) -> None:
    await cache.put("a", b"native")
    os.truncate(file_of(tmp_path, "a"), length)
    assert await cache.get("a") is None


async def test_a_file_under_another_name_is_never_returned(
    cache: ModuleCache, tmp_path: Path
) -> None:
    await cache.put("a", b"native")
    file_of(tmp_path, "a").rename(file_of(tmp_path, "b"))
    assert await cache.get("b") is None


async def test_a_file_of_another_installation_is_never_returned(
    cache: ModuleCache, tmp_path: Path
) -> None:
    other = await opened(tmp_path / "other")
    await other.put("a", b"native")
    file_of(tmp_path / "other", "a").rename(file_of(tmp_path, "a"))
    assert await cache.get("a") is None


async def test_a_key_file_that_others_can_read_is_refused(
    cache: ModuleCache, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "cache.key").chmod(0o644)
    with pytest.raises(HubError, match="chmod 600"):
        await opened(tmp_path)


async def test_the_least_recently_used_file_makes_room(tmp_path: Path) -> None:
    cache = await opened(tmp_path, size_bytes_max=3 * 132)
    for key in "abc":
        await cache.put(key, bytes(100))
    await cache.get("a")
    await cache.put("d", bytes(100))
    assert [key for key in "abcd" if await cache.get(key) is not None] == ["a", "c", "d"]
    assert cache.size_bytes == 3 * 132


async def test_a_smaller_bound_is_applied_at_the_next_start(
    cache: ModuleCache, tmp_path: Path
) -> None:
    for number, key in enumerate("abc"):
        await cache.put(key, bytes(100))
        os.utime(file_of(tmp_path, key), (number, number))
    smaller = await opened(tmp_path, size_bytes_max=132)
    assert [key for key in "abc" if await smaller.get(key) is not None] == ["c"]


async def test_native_code_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = await opened(tmp_path, size_bytes_max=100)
    await cache.put("a", bytes(100))
    assert await cache.get("a") is None


def test_each_variant_has_its_own_key() -> None:
    keys = {cache_key("sha", variant) for variant in ("plain", "fuel", "deterministic")}
    assert len(keys) == 3
    assert cache_key("other", "plain") not in keys


async def test_a_disk_that_refuses_costs_a_compilation_and_no_more(
    cache: ModuleCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swarm_hub.components.sandbox.cache.write_atomic", full)
    await cache.put("a", b"native")
    assert "No space left" in caplog.text
    assert await cache.get("a") is None
