"""Inputs one by one: how they are cut, named, logged, and when their failures stop the rest."""

from pathlib import Path
from typing import Any

import click
import pytest

from swarm_hub.cli.each import file_names, halt
from swarm_hub.cli.inputs import Input, dataset_of, read_inputs
from swarm_hub.cli.joblog import JobLog, Line, exit_code_of
from swarm_hub.exceptions import HubError


def named(tmp_path: Path, *bodies: bytes) -> list[Path]:
    paths = [tmp_path / f"{number}.txt" for number in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    return paths


@pytest.mark.parametrize(
    ("split", "bodies", "names", "dataset"),
    [
        ("lines", [b"a\nb"], ["a", "b"], b"a\nb"),
        ("lines", [b"a", b"b\r\nc\rd\n"], ["a", "b", "c\rd"], b"a\nb\r\nc\rd\n"),
        ("lines", [b"\n\xff\n"], ["", "\ufffd"], b"\n\xff\n"),
        ("json", [b'[1, "x y", {"a": null}]'], ["1", "x y", '{"a": null}'],
         b'[1, "x y", {"a": null}]'),
        ("records:2", [b"abcd"], ["record 0", "record 1"], b"abcd"),
        ("i32", [b"\xff\xff\xff\xff\x02\0\0\0"], ["-1", "2"], b"\xff\xff\xff\xff\x02\0\0\0"),
    ],
)  # fmt: skip
def test_a_dataset_falls_into_the_inputs_that_the_hub_makes_of_it(
    tmp_path: Path, split: str, bodies: list[bytes], names: list[str], dataset: bytes
) -> None:
    found = read_inputs(named(tmp_path, *bodies), None, split)
    assert [each.name for each in found] == names
    assert [each.seq for each in found] == list(range(1, len(names) + 1))
    assert dataset_of(found, split) == dataset


def test_files_and_numbers_are_inputs_too(tmp_path: Path) -> None:
    paths = named(tmp_path, b"a", b"b")
    found = read_inputs(paths, None, "files")
    assert [each.name for each in found] == ["0.txt", "1.txt"]
    assert dataset_of(found[1:], "files") == paths[1:]
    numbers = read_inputs([], range(-2, 3), "range")
    assert [each.name for each in numbers] == ["-2", "-1", "0", "1", "2"]
    assert dataset_of(numbers[1:4], "range") == range(-1, 2)


@pytest.mark.parametrize(
    ("split", "body", "error"),
    [
        ("json", b"{", HubError), ("json", b"{}", HubError), ("words", b"", click.UsageError),
        ("records:0", b"", click.UsageError), ("records:x", b"", click.UsageError),
    ],
)  # fmt: skip
def test_what_has_no_inputs_is_refused(
    tmp_path: Path, split: str, body: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        read_inputs(named(tmp_path, body), None, split)


def test_each_input_has_a_file_of_its_own_with_a_safe_name() -> None:
    names = ["a.txt", "a.txt", "../../etc/passwd", "..", "", "x\ty\nz", "\x1b[31m", "é" * 200]
    inputs = [Input(seq, name, b"") for seq, name in enumerate(names, 1)]
    assert list(file_names(inputs, ".tar").values()) == [
        "a.txt.tar", "a.txt.2.tar", "_.._etc_passwd.tar", "4.tar", "5.tar", "x_y_z.tar",
        "\\x1b[31m.tar", f"{'é' * 60}.tar",
    ]  # fmt: skip


def test_when_to_stop_is_read() -> None:
    def reached(text: str, failed: int, inputs: int) -> bool:
        read = halt(None, None, text)
        assert read is not None
        return read.is_reached(failed, inputs)

    assert (halt(None, None, None), halt(None, None, "never")) == (None, None)
    assert [reached("now,fail=2", failed, 9) for failed in (1, 2)] == [False, True]
    assert [reached("soon,fail=25%", failed, 8) for failed in (0, 1, 2)] == [False, False, True]
    for wrong in ("now", "2", "now,done=1", "later,fail=1", "now,fail=0", "now,fail=-1", ""):
        with pytest.raises(click.BadParameter, match="expected now,fail=1"):
            halt(None, None, wrong)


LINE = Line(3, "kitchen", 1_700_000_000.5, 0.25, 12, 0, "wc.wasm a\tb\n.txt")


def test_a_log_has_the_columns_of_gnu_parallel_and_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with JobLog(path, resume=True) as log:
        log.add(LINE)
    assert path.read_text() == (
        "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
        "3\tkitchen\t1700000000.500\t     0.250\t0\t12\t0\t0\twc.wasm a b .txt\n"
    )
    with path.open("a") as file:
        file.write("4\tkitchen\t17000")
    with JobLog(path, resume=True) as log:
        assert log.before == {3: (0, "wc.wasm a b .txt")}
        log.add(LINE)
        log.check({3: "wc.wasm a\tb\n.txt", 4: "whatever"})
        with pytest.raises(HubError, match=r"input 3 was 'wc.wasm a b .txt' and is"):
            log.check({3: "wc.wasm c"})
    assert path.read_text().count("\n3\tkitchen\t1700000000.500\t") == 2
    with JobLog(path, resume=False):
        assert path.read_text().count("\n") == 1


@pytest.mark.parametrize(
    "body", [b"Seq\nnonsense\n", b"\xff\n", b"Seq\n1\ta\t0\t0\t0\t0\tx\t0\tc\n"]
)
def test_what_is_no_log_is_left_as_it_is(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(body)
    with pytest.raises(HubError, match="--joblog"):
        JobLog(path, resume=True)
    assert path.read_bytes() == body
    with pytest.raises(HubError, match="can't be written"):
        JobLog(tmp_path / "none" / "log", resume=False)


@pytest.mark.parametrize(
    ("message", "code"), [("exit 3: bad row", 3), ("trap: unreachable", 1), ("exit 1234", 1)]
)
def test_the_exit_code_is_that_of_the_module(message: Any, code: int) -> None:
    assert exit_code_of(message) == code
