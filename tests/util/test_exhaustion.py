"""Errors that say that a process gets no more memory or threads, and those that do not."""

import errno
import sqlite3

import pytest

from swarm_hub.exceptions import StoreError
from swarm_hub.util.exhaustion import explain, is_exhausted, last_words


def caused_by(cause: BaseException) -> BaseException:
    error = StoreError("the store failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("lib.so: failed to map segment from shared object"),
        sqlite3.OperationalError("out of memory"),
        caused_by(MemoryError()),
        ExceptionGroup("several", [ValueError("x"), caused_by(MemoryError())]),
    ],
)
def test_an_error_for_want_of_memory_or_threads_is_known(error: BaseException) -> None:
    assert is_exhausted(error)
    said = explain(error)
    assert said.startswith("too little memory (")
    assert "this process had" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no running event loop"),
        ImportError("No module named 'libp2p'"),
        OSError(errno.ENOSPC, "No space left on device"),
        sqlite3.OperationalError("disk I/O error"),
        # A worker's word about a shard of its own.
        StoreError("out of memory"),
        ValueError("out of memory"),
        None,
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException | None) -> None:
    assert not is_exhausted(error)


def test_errors_that_lead_to_each_other_are_looked_at_once() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__context__, second.__context__ = second, first
    assert not is_exhausted(first)


def test_the_last_words_are_one_line() -> None:
    assert last_words().startswith(b"swarm-hub: too little memory: ")
    assert last_words().count(b"\n") == 1
