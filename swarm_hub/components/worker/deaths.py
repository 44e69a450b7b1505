"""Which shards ran when this process died, so that one that kills it is not run for ever.

A death leaves no time to write, so what runs is written when it begins: into a file that survives
the process, if not the power, as nothing waits for the disk; what begins and ends in one turn of
the loop is written at its end, by one call. A shard that several lives ended with
may be innocent: its neighbours ran as well, or somebody killed the hub. So what two lives in a row
ended with is run alone, and only one that a third ends with, while nothing else ran, is given up.
"""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from swarm_hub.components.sandbox import CallResult
from swarm_hub.util.files import write_atomic

_LOGGER = logging.getLogger(__name__)

ALONE_FROM: Final = 2
GIVEN_UP_FROM: Final = 3
RUNNING_FILE: Final = "running"
DEATHS_FILE: Final = "deaths.json"
GIVEN_UP: Final = CallResult(
    "worker_died",
    "the worker died three times while it ran this, at last with nothing beside it; it may need "
    "more memory than that device has: cut smaller shards",
    b"", 0.0, 0.0, None, None,
)  # fmt: skip
# The longest id of an assignment is 64 characters of UTF-8; a longer one is not counted.
_RECORD_BYTES: Final = 256


def count(before: dict[str, int], ran: Collection[str]) -> dict[str, int]:
    """Return with how many lives in a row each shard ended, after another death.

    A life that ended before anything ran says nothing about any of them.
    """
    return {each: before.get(each, 0) + 1 for each in ran} if ran else before


def shard_of(assignment_id: str) -> str:
    """Return the shard that an assignment is an attempt at; its gateway may try it anew here."""
    return assignment_id.rpartition(".")[0] or assignment_id


class Deaths:
    """What runs now, in a file of its own, and what ran at the last deaths.

    `soon` has something called when this turn of the loop is over.
    """

    def __init__(self, folder: Path, soon: Callable[[Callable[[], None]], object]) -> None:
        self._soon = soon
        self._running = folder / RUNNING_FILE
        self._file = folder / DEATHS_FILE
        self._descriptor: int | None = None
        self._records: dict[str, int] = {}
        self._free: list[int] = []
        # What is to be in the file, and which of its records are not yet.
        self._table = bytearray()
        self._stale: set[int] = set()
        self._counts: dict[str, int] = {}

    def load(self) -> None:
        """Count the death that ended the last life, if one did."""
        before = self._read_counts()
        ran = {shard_of(each) for each in self._read_running()}
        self._counts = count(before, ran)
        if self._counts != before:
            self._keep_counts()
        # Only now: a death between the two would count for nobody.
        self._descriptor = os.open(self._running, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        for shard in sorted(ran):
            _LOGGER.warning(
                "The hub died while it ran shard %s (%d times in a row)", shard, self._counts[shard]
            )

    def runs_alone(self, assignment_id: str) -> bool:
        """Whether nothing else may run beside this one."""
        return self._deaths_of(assignment_id) >= ALONE_FROM

    def is_given_up(self, assignment_id: str) -> bool:
        """Whether this one may not be run any more."""
        return self._deaths_of(assignment_id) >= GIVEN_UP_FROM

    def survived(self, assignment_id: str) -> None:
        """Clear a shard of suspicion: it ran to its end."""
        if self._counts and self._counts.pop(shard_of(assignment_id), None) is not None:
            self._keep_counts()

    def begun(self, assignment_id: str) -> None:
        """Note that this one runs from now on."""
        text = assignment_id.encode()
        if self._descriptor is None or len(text) >= _RECORD_BYTES or assignment_id in self._records:
            return
        record = self._free.pop() if self._free else len(self._records)
        self._records[assignment_id] = record
        self._put(record, text)

    def ended(self, assignment_id: str) -> None:
        """Note that this one runs no more, whatever became of it."""
        if (record := self._records.pop(assignment_id, None)) is not None:
            self._free.append(record)
            self._put(record, b"")

    def close(self) -> None:
        """Close the file; a hub that stops in order leaves nothing in it."""
        if self._descriptor is not None:
            for assignment_id in tuple(self._records):
                self.ended(assignment_id)
            self._write()
            os.close(self._descriptor)
            self._descriptor = None

    def _deaths_of(self, assignment_id: str) -> int:
        # Nearly always nothing is suspected.
        return self._counts.get(shard_of(assignment_id), 0) if self._counts else 0

    def _keep_counts(self) -> None:
        try:
            write_atomic(self._file, json.dumps(self._counts).encode(), durable=False)
        except OSError as error:
            _LOGGER.warning("Can't keep what ran when the hub died: %s", error)

    def _put(self, record: int, text: bytes) -> None:
        start = record * _RECORD_BYTES
        self._table[start : start + _RECORD_BYTES] = text.ljust(_RECORD_BYTES, b"\0")
        self._stale.add(record)
        if len(self._stale) == 1:
            self._soon(self._write)

    def _write(self) -> None:
        """Write the records that changed, with those between them."""
        if self._descriptor is None or not self._stale:
            return
        start = min(self._stale) * _RECORD_BYTES
        end = (max(self._stale) + 1) * _RECORD_BYTES
        self._stale.clear()
        try:
            os.pwrite(self._descriptor, self._table[start:end], start)
        except OSError as error:
            # A full disk: the shard runs, and its death would not be counted.
            _LOGGER.debug("Can't note what runs: %s", error)

    def _read_running(self) -> set[str]:
        try:
            content = self._running.read_bytes()
        except FileNotFoundError:
            return set()
        return set(_texts(content[start : start + _RECORD_BYTES]
                   for start in range(0, len(content), _RECORD_BYTES)))  # fmt: skip

    def _read_counts(self) -> dict[str, int]:
        try:
            found = json.loads(self._file.read_bytes())
            return {str(name): int(deaths) for name, deaths in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            # Written without waiting for the disk, it may be lost with the power.
            _LOGGER.warning("%s can't be read, and is begun anew: %s", self._file, error)
            return {}


def _texts(records: Iterable[bytes]) -> Iterable[str]:
    for record in records:
        if text := record.rstrip(b"\0"):
            yield text.decode(errors="replace")
