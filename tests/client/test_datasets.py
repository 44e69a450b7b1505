"""Items are what they look like: every kind with every split is right or an error."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import ClientError, datasets
from swarm_hub.client.submission import Submission

SPLITS = (None, "range", "lines", "json", "files", "i32", "records:2", "args")
# What the hub is sent: the names and bytes of the files, and the split.
Sent = tuple[list[tuple[str, bytes]], str | None]


class LikeNumpy:
    """Has what tells an array from a list."""

    def __iter__(self) -> Any:
        return iter((1, 2))

    def tobytes(self) -> bytes:
        return b"\1\2"


KINDS: dict[str, Callable[[], Any]] = {
    "range": lambda: range(2, 5),
    "bytes": lambda: b"a\nb",
    "bytearray": lambda: bytearray(b"a\nb"),
    "memoryview": lambda: memoryview(b"a\nb"),
    "path": lambda: Path("one.txt"),
    "text": lambda: "one.txt",
    "paths": lambda: [Path("one.txt"), Path("two.txt")],
    "texts": lambda: ["one.txt", "two.txt"],
    "a tuple of texts": lambda: ("one.txt", "two.txt"),
    "a generator of texts": lambda: (name for name in ("one.txt", "two.txt")),
    "byte items": lambda: [b"ab", bytearray(b"cd")],
    "numbers": lambda: [1, -2],
    "floats": lambda: [0.5],
    "objects": lambda: [{"a": 1}, None],
    "a generator of numbers": lambda: iter([1, -2]),
}  # fmt: skip
ONE, TWO = ("one.txt", b"1\n"), ("two.txt", b"2\n")
RAW, NAMES = [("dataset", b"a\nb")], [("items.json", b'["one.txt", "two.txt"]')]
INTS = [("items.json", b"[1, -2]")]
# What is not here is an error.
RIGHT: dict[tuple[str, str | None], Sent] = {
    ("range", None): ([("range", b"2:5")], "range"),
    ("range", "range"): ([("range", b"2:5")], "range"),
    **{(kind, split): (RAW, split) for kind in ("bytes", "bytearray", "memoryview")
       for split in SPLITS},
    **{(kind, split): ([ONE], split) for kind in ("path", "text") for split in SPLITS},
    **{("paths", split): ([ONE, TWO], split) for split in SPLITS},
    **{(kind, split): (sent, split or "json")
       for kind in ("texts", "a tuple of texts", "a generator of texts")
       for split, sent in ((None, NAMES), ("json", NAMES), ("args", NAMES), ("files", [ONE, TWO]),
                           ("lines", [("lines.txt", b"one.txt\ntwo.txt\n")]))},
    ("byte items", None): ([("item-0000", b"ab"), ("item-0001", b"cd")], "files"),
    ("byte items", "files"): ([("item-0000", b"ab"), ("item-0001", b"cd")], "files"),
    ("byte items", "lines"): ([("lines.txt", b"ab\ncd\n")], "lines"),
    ("byte items", "records:2"): ([("records", b"abcd")], "records:2"),
    **{(kind, split): (INTS, split or "json")
       for kind in ("numbers", "a generator of numbers") for split in (None, "json", "i32")},
    **{("floats", split): ([("items.json", b"[0.5]")], "json") for split in (None, "json")},
    **{("objects", split): ([("items.json", b'[{"a": 1}, null]')], "json")
       for split in (None, "json")},
}  # fmt: skip


@pytest.fixture(autouse=True)
def two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, body in (ONE, TWO):
        Path(name).write_bytes(body)


def sent(items: Any, split: str | None) -> Sent:
    spec = {} if split is None else {"split": split}
    return datasets.dataset_of(items, spec), spec.get("split")  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_with_each_split_is_right_or_an_error(kind: str) -> None:
    for split in SPLITS:
        if (kind, split) in RIGHT:
            assert sent(KINDS[kind](), split) == RIGHT[kind, split]
            continue
        with pytest.raises(ClientError, match="items"):
            sent(KINDS[kind](), split)


@pytest.mark.parametrize(
    ("items", "split", "told"),
    [
        (range(0, 9, 2), None, "must have step 1"),
        ({"a": 1}, None, r"give list\(items.items\(\)\)"),
        ({1, 2}, None, "a set has no order"),
        (io.BytesIO(b"x"), None, "give its path"),
        (LikeNumpy(), None, r"give items.tobytes\(\) .* or items.tolist\(\)"),
        (5, None, "expected a range, bytes, a path, or a list .* got int"),
        (None, None, "got NoneType"),
        ([], None, "there are none"),
        ([], "files", "there are none"),
        (iter(()), None, "there are none"),
        ([Path("one.txt"), "two.txt"], None, "make all of them Path"),
        ([b"a", "b"], None, "some are bytes and some are not"),
        ("to be or not", None, r"can't be read as a file: No such file.*text.encode\(\)"),
        ("to be\n" * 2000, None, r"text.encode\(\)"),
        ("a\0b", None, r"text.encode\(\)"),
        ([Path("three.txt")], None, "three.txt: can't be read: No such file"),
        (["one.txt", "three.txt"], "files", "three.txt.*can't be read as a file"),
        (["a", "b\nc"], "lines", r"items\[1\] has several lines"),
        ([b"a", b"b\nc"], "lines", r"items\[1\] has several lines"),
        (["a", 1], "lines", r"items\[1\]: split='lines' takes texts, got 1"),
        (["\ud800"], "lines", "can't be written as UTF-8"),
        ([b"ab", b"c"], "records:2", r"items\[1\] has 1 bytes"),
        ([1, 2**31], "i32", r"items\[1\]: .*32 bits, got 2147483648"),
        ([1, True], "i32", r"items\[1\]: .*got True"),
        ([1, float("nan")], None, r"items\[1\] can't be written as JSON"),
        ([1, object()], None, r"items\[1\] can't be written as JSON"),
    ],
)
def test_what_can_not_be_meant_is_told(items: Any, split: str | None, told: str) -> None:
    with pytest.raises(ClientError, match=told):
        sent(items, split)


def test_a_line_may_have_its_end() -> None:
    assert sent(["a\n", "b"], "lines")[0] == [("lines.txt", b"a\nb\n")]


def test_an_iterator_without_end_is_not_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "TAKEN_MAX", 3)
    taken: list[int] = []

    def endless() -> Any:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    with pytest.raises(ClientError, match="write them to a file"):
        sent(endless(), None)
    assert len(taken) == 4


@pytest.mark.parametrize(
    "module",
    [b"(module)", bytearray(b"(module)"), memoryview(b"(module)"), "(module)", " \n(module)",
     ";; what it does\n(module)", "m.wat", Path("m.wat")],
)  # fmt: skip
def test_a_module_is_a_path_bytes_or_wat_text(module: Any) -> None:
    Path("m.wat").write_bytes(b"(module)")
    assert Submission.of(module, b"x", None, {}).module.strip().endswith(b"(module)")


def test_another_module_is_told() -> None:
    with pytest.raises(
        ClientError, match="expected a Python function, a path, bytes or WAT text, got int"
    ):
        Submission.of(5, b"x", None, {})  # type: ignore[arg-type]
