"""The command line of a hub that kills itself at one place: tests/restart/test_kill_points.py.

    python -m tests.restart.doomed POINT:N run -c DIR

patches the one function of POINT so that the process sends itself SIGKILL there the N-th time,
then runs the normal command line. A hub has no hooks for this.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from swarm_hub.__main__ import main
from swarm_hub.components import gc
from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.gateway.dispatch.node_messages import NodeMessages
from swarm_hub.components.gateway.dispatch.sender import Sender
from swarm_hub.components.gateway.results.result_cache import ResultCache
from swarm_hub.components.scheduler import Send
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.components.worker import intake
from swarm_hub.components.worker.delivery import Delivery
from swarm_hub.components.worker.executor import Executor
from swarm_hub.components.worker.intake import Intake
from swarm_hub.components.worker.outbox import Outbox
from swarm_hub.models import messages
from swarm_hub.storage import migrations
from swarm_hub.storage.backup import backup
from swarm_hub.storage.backup.archive import ArchiveWriter
from swarm_hub.storage.engine.sqlite import SqliteDatabase
from swarm_hub.storage.engine.writer import Writer
from swarm_hub.storage.queries import pruning

Seen = Callable[..., bool]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    # The signal is on its way to this thread, too.
    while True:
        time.sleep(1)


class Countdown:
    """Dies at the n-th time that it is told something happened."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self, happened: bool) -> None:
        self._left -= happened
        if happened and self._left == 0:
            die()


def before(owner: Any, name: str, seen: Seen = lambda *_all, **_named: True) -> Any:
    """Return the point before a call of which `seen` is true; an async one's before its body."""

    def arm(count: Countdown) -> None:
        real = getattr(owner, name)

        @functools.wraps(real)
        def doomed(*arguments: Any, **named: Any) -> Any:
            count(seen(*arguments, **named))
            return real(*arguments, **named)

        setattr(owner, name, doomed)

    return arm


def after(owner: Any, name: str) -> Any:
    """Return the point after a call that is not async."""

    def arm(count: Countdown) -> None:
        real = getattr(owner, name)

        @functools.wraps(real)
        def doomed(*arguments: Any, **named: Any) -> Any:
            done = real(*arguments, **named)
            count(True)
            return done

        setattr(owner, name, doomed)

    return arm


def after_awaiting(owner: Any, name: str) -> Any:
    """Return the point after an async call."""

    def arm(count: Countdown) -> None:
        real = getattr(owner, name)

        @functools.wraps(real)
        async def doomed(*arguments: Any, **named: Any) -> Any:
            done = await real(*arguments, **named)
            count(True)
            return done

        setattr(owner, name, doomed)

    return arm


def committing(table: str, *, committed: bool) -> Any:
    """Return the point before or after the COMMIT of a transaction with new rows of a table.

    After it nobody has been told yet: that is the next thing the writer does.
    """

    def arm(count: Countdown) -> None:
        execute, write = Writer._execute, SqliteDatabase.write
        inserted = False

        def watched(self: Writer, batch: Any, event_rows: Any, connection: Any) -> int:
            nonlocal inserted
            done = execute(self, batch, event_rows, connection)
            inserted = any(
                each.statement.is_insert and each.statement.table.name == table
                for unit in batch
                for each in unit.writes
            )
            if not committed:
                count(inserted)
            return done

        async def written(self: SqliteDatabase, work: Any) -> Any:
            nonlocal inserted
            done = await write(self, work)
            count(inserted)
            inserted = False
            return done

        Writer._execute = watched  # type: ignore[method-assign]
        if committed:
            SqliteDatabase.write = written  # type: ignore[method-assign]

    return arm


def at_once(point: Any, *, after_s: float = 0.0) -> Any:
    """Return a point at which a worker writes down what is short, too."""

    def arm(count: Countdown) -> None:
        intake._WRITE_DOWN_AFTER_S = after_s  # type: ignore[misc]
        point(count)

    return arm


def never(point: Any) -> Any:
    """Return a point at which a worker writes down nothing that it was given."""
    return at_once(point, after_s=600.0)


def _sends(_self: Any, gathered: Any) -> bool:
    return any(isinstance(each, Send) for each in gathered.outcome.instructions)


def _posts(kind: str) -> Seen:
    return lambda _self, _peer, posted, _fields, **_named: posted == kind


def _any(_self: Any, many: Any, **_named: Any) -> bool:
    return bool(many)


def _changes(_self: Any, commit: Any, *_more: Any) -> bool:
    return bool(commit.changes)


POINTS: Final[dict[str, Any]] = {
    "job before its commit": committing("jobs", committed=False),
    "job committed, nobody told": committing("jobs", committed=True),
    "change before its commit": before(Dispatcher, "_commit", _changes),
    "change committed, nobody told": before(Dispatcher, "_committed", _changes),
    "assignments committed, not sent": before(Dispatcher, "_carry_out", _sends),
    "assignments sent, ACK not heard": before(NodeMessages, "_on_ack"),
    "result heard, not stored": committing("results", committed=False),
    "result stored, not acknowledged": committing("results", committed=True),
    "result acknowledged at the mesh only": before(Sender, "acknowledge", _any),
    "before the fold": before(ResultCache, "fold_stored"),
    "folded, not stored": after_awaiting(ResultCache, "fold_stored"),
    "between two chunks of gc": before(pruning, "sweep"),
    "before the upgrade commits": after(migrations, "_note_for_older_programs"),
    "before the copy has its name": before(SqliteDatabase, "_copy_before_upgrade"),
    "copied, not upgraded": after(SqliteDatabase, "_copy_before_upgrade"),
    "database copied for the backup": after(backup, "take_snapshot"),
    "in the middle of the archive": before(ArchiveWriter, "add"),
    "archive whole, not renamed": before(backup, "ArchiveReader"),
    "assigned, nothing on disk": before(Executor, "put", _any),
    "inbox before its commit": at_once(committing("inbox", committed=False)),
    "inbox committed, nobody told": at_once(committing("inbox", committed=True)),
    "before the ACK": at_once(before(EnvelopeChannel, "send", _posts(messages.ACK))),
    "shard ran, outbox not written": before(Outbox, "finish"),
    "outbox before its commit": at_once(committing("outbox", committed=False)),
    "outbox committed, nobody told": at_once(committing("outbox", committed=True)),
    "written down, not sent": at_once(before(Delivery, "deliver", _any)),
    "result not sent": never(before(Delivery, "deliver", _any)),
    "sent, not written down": never(before(Outbox, "_write_down")),
    "delivered, not deleted": before(Intake, "_on_delivered"),
}

if __name__ == "__main__":
    point, _, times = sys.argv.pop(1).partition(":")
    POINTS[point](Countdown(int(times)))
    # The first round of gc should not keep a test waiting.
    gc._EVERY_S = 0.2  # type: ignore[misc]
    main()
