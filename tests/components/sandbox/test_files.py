"""Abi `wasi-files`: items as files, results as files, and nothing else of this machine."""

import dataclasses
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.sandbox import archive
from swarm_hub.components.sandbox.child.workspace import remove_tree
from tests.helpers import modules
from tests.helpers.sandboxes import Bench, make_call, until

# WASI preview1, errno.
BAD_DESCRIPTOR, NOT_CAPABLE, NOT_PERMITTED, NO_ENTRY, READ_ONLY = 8, 76, 63, 44, 69


def packed(files: dict[str, bytes]) -> bytes:
    return b"".join(
        part
        for name, body in files.items()
        for part in (archive.header(name, len(body)), body, archive.padding(len(body)))
    )


def unpacked(body: bytes) -> dict[str, bytes]:
    return {
        name: body[start : start + size_bytes] for name, start, size_bytes in archive.members(body)
    }


NAMES = st.text(min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and "/" not in name and name.isprintable()
)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=6))
def test_an_archive_is_what_tar_reads_and_comes_out_as_it_went_in(files: dict[str, bytes]) -> None:
    body = packed(files)
    assert unpacked(body) == files
    with tarfile.open(fileobj=io.BytesIO(body + archive.END_MARKER), mode="r:") as tar:
        found = {}
        for member in tar:
            extracted = tar.extractfile(member)
            assert extracted is not None
            found[member.name] = extracted.read()
    assert found == files


@given(st.binary(max_size=1500), st.integers(0, 1600), st.binary(max_size=8))
def test_bytes_that_are_no_archive_are_a_value_error_or_files_within(
    body: bytes, at: int, noise: bytes
) -> None:
    whole = bytearray(packed({"a": body}))
    whole[at : at + len(noise)] = noise
    try:
        found = unpacked(bytes(whole))
    except ValueError:
        return
    assert sum(len(content) for content in found.values()) <= len(whole)


def test_a_name_too_long_for_the_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than 100 bytes"):
        archive.header("é" * 51, 1)


def renamed(name: bytes) -> bytes:
    return sealed(packed({"n" * len(name): b"x"}), 0, name)


def sealed(body: bytes, at: int, changed: bytes) -> bytes:
    """Change a header and let its checksum be right again."""
    block = bytearray(body)
    block[at : at + len(changed)] = changed
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:512])
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


@pytest.mark.parametrize(
    "name", [b"../x", b"/etc/x", b"a/../../x", b"a//b", b"./a", b"a/", b"..", b"a\0b"]
)
def test_a_name_that_leads_out_of_a_directory_is_an_error(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a name for a file"):
        unpacked(renamed(name))
    assert unpacked(renamed(b"a/b")) == {"a/b": b"x"}


@pytest.mark.parametrize("size", [b"-0000001000", b"0000000_010", b"+0000000001", b"         10"])
def test_a_size_is_digits_only(size: bytes) -> None:
    with pytest.raises(ValueError, match="no valid size"):
        unpacked(sealed(packed({"a": b"x"}), 124, size))


async def test_items_are_files_and_results_are_files(bench: Bench) -> None:
    files = {"b.txt": b"second", "a.txt": b"first", "empty": b"", "ü.bin": bytes(60_000)}
    for _ in range(2):
        outcome = await bench.run(modules.COPY_FILES, "wasi-files", packed(files))
        assert outcome.code == "ok", outcome.text
        assert unpacked(outcome.output) == files
        assert list(unpacked(outcome.output)) == sorted(files)


async def test_nothing_of_one_shard_is_left_for_the_next(bench: Bench) -> None:
    first = await bench.run(modules.COPY_FILES, "wasi-files", packed({"a": b"1", "b": b"2"}))
    assert unpacked(first.output) == {"a": b"1", "b": b"2"}
    second = await bench.run(modules.COPY_FILES, "wasi-files", packed({"c": b"3"}))
    assert unpacked(second.output) == {"c": b"3"}


@pytest.mark.parametrize(
    "body", [b"plain", packed({"../evil": b"x"}), packed({"a": b"1"})[:-1]],
    ids=["text", "path", "cut"],
)  # fmt: skip
async def test_a_shard_that_is_no_archive_of_names_is_bad_input(bench: Bench, body: bytes) -> None:
    outcome = await bench.run(modules.COPY_FILES, "wasi-files", body)
    assert outcome.code == "bad_input", outcome.text


@pytest.mark.parametrize(
    ("directory", "name", "make", "errnos"),
    [
        (3, "new", True, {NOT_CAPABLE, NOT_PERMITTED, READ_ONLY}),
        (3, "../out/x", True, {NOT_CAPABLE, NOT_PERMITTED}),
        (4, "../../../../etc/passwd", False, {NOT_CAPABLE, NOT_PERMITTED}),
        (4, "/etc/passwd", False, {NOT_CAPABLE, NOT_PERMITTED}),
        (4, "no such file", False, {NO_ENTRY}),
    ],
)
async def test_a_command_can_not_leave_its_two_directories(
    bench: Bench, directory: int, name: str, make: bool, errnos: set[int]
) -> None:
    wasm = modules.open_command(directory, name, make=make)
    outcome = await bench.run(wasm, "wasi-files", packed({"a": b"1"}))
    assert outcome.code in {f"exit: {errno}" for errno in errnos}, outcome.text


async def test_without_wasi_files_there_are_no_directories(bench: Bench) -> None:
    outcome = await bench.run(modules.open_command(3, "a", make=False), "wasi", b"")
    assert outcome.code == f"exit: {BAD_DESCRIPTOR}"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "nowhere"])
async def test_a_link_is_no_result(bench: Bench, target: str) -> None:
    outcome = await bench.run(modules.link_command(target), "wasi-files", packed({"a": b"1"}))
    # Targets outside are refused by wasmtime already.
    assert outcome.code in ("output", f"exit: {NOT_PERMITTED}", f"exit: {NOT_CAPABLE}")
    assert outcome.output == b""


async def test_a_flood_of_files_ends_while_the_disk_has_little_of_it(
    bench: Bench,
) -> None:
    await bench.sandbox.warm()
    (child,) = bench.sandbox._children
    room = child.launched.room
    outcome = await bench.run(
        modules.FLOOD_FILES, "wasi-files", packed({"a": b"1"}),
        output_bytes=1_000_000, wall_time_s=20,
    )  # fmt: skip
    assert outcome.code == "output", outcome.text
    # The dead child's room goes with it.
    await until(lambda: not os.path.exists(room))
    after = await bench.run(modules.COPY_FILES, "wasi-files", packed({"c": b"3"}))
    assert unpacked(after.output) == {"c": b"3"}


async def test_a_flood_from_the_start_function_ends_too(bench: Bench) -> None:
    flood = modules.FLOOD_FILES.replace('(func (export "_start")', "(func $flood", 1)
    flood = f'{flood.rstrip()[:-1]} (start $flood) (func (export "_start")))'
    outcome = await bench.run(
        flood, "wasi-files", packed({"a": b"1"}), output_bytes=1_000_000, wall_time_s=20
    )
    assert outcome.code == "output", outcome.text


async def test_a_script_can_not_be_put_elsewhere(bench: Bench) -> None:
    wasm = await bench.wasm(modules.CAT)
    call = dataclasses.replace(make_call(wasm, "wasi"), script=("../in", b"x"))
    outcome = await bench.sandbox.run(call, b"", bench.loader(wasm))
    assert (outcome.code, "not a file name" in outcome.text) == ("bad_input", True)


async def test_directories_as_deep_as_a_path_goes_are_an_error_and_go_away(bench: Bench) -> None:
    packed_one = packed({"a": b"1"})
    outcome = await bench.run(modules.NEST_DIRECTORIES, "wasi-files", packed_one)
    assert outcome.code == "output", outcome.text
    after = await bench.run(modules.COPY_FILES, "wasi-files", packed_one)
    assert (after.code, unpacked(after.output)) == ("ok", {"a": b"1"})


def test_a_tree_of_any_shape_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for number in range(1000):
        os.mkdir("d" * 200, dir_fd=here)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
        if number % 200 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
            os.symlink("/", "link", dir_fd=here)
    os.close(here)
    remove_tree(str(top))
    assert not top.exists()
    remove_tree(str(top))
