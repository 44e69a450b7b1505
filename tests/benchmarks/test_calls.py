"""What is counted of a process is what it did."""

import os
import subprocess
import sys
from pathlib import Path

from calls import Calls, Counted
from traced import calls_in

DOES = """
import os, select, socket, sqlite3, subprocess, sys
root = sys.argv[1]
hub, other = os.path.join(root, "hub"), os.path.join(root, "other")
os.makedirs(hub)
os.makedirs(other)
connection = sqlite3.connect(os.path.join(hub, "store.db"), isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL").fetchall()
connection.execute("PRAGMA synchronous=FULL")
connection.execute("CREATE TABLE t (x)")
connection.execute("BEGIN")
connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
connection.execute("COMMIT")
connection.execute("SELECT * FROM t").fetchall()
with open(os.path.join(other, "file"), "wb", buffering=0) as file:
    file.write(b"12345")
    os.fsync(file.fileno())
with open(root + ".outside", "wb", buffering=0) as file:
    file.write(b"12345")
    os.fsync(file.fileno())
subprocess.run([sys.executable, "-c", f"open({os.path.join(other, 'more')!r}, 'w').write('x')"])
with socket.create_server(("127.0.0.1", 0)) as server:
    with socket.create_connection(server.getsockname()) as client, select.epoll() as poll:
        client.sendall(b"123")
        client.send(b"4567")
        poll.register(client, select.EPOLLOUT)
        poll.poll(1)
print(os.getpid())
os._exit(0)
"""


def test_a_process_is_counted_by_hub(tmp_path: Path) -> None:
    root = tmp_path / "hubs"
    root.mkdir()
    calls = Calls.build(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", DOES, root], check=True, capture_output=True, text=True,
        env={**os.environ, **calls.environment(root)},
    )  # fmt: skip
    pid = int(done.stdout)
    hubs = calls.by_hub(pid)
    assert hubs["other"] == Counted(syncs=1, written_bytes=5)
    hub = hubs["hub"]
    # The journal's mode, the table, the rows; BEGIN, COMMIT and each row are statements, too.
    assert (hub.commits, hub.statements) == (3, 8)
    # The first page and the table's, then the table's with the rows.
    assert hub.pages == 3
    assert hub.syncs >= 2
    assert hub.written_bytes > 3 * 4096
    whole = calls.of_process(pid)
    assert (whole.sends, whole.sent_bytes, whole.polls) == (2, 7, 1)
    assert whole.syncs == hub.syncs + 1


def test_the_calls_in_a_table_of_strace() -> None:
    table = (
        "% time     seconds  usecs/call     calls    errors syscall\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        " 99.00    0.004321          12      1234       210 futex\n"
        "  1.00    0.000021           2         7           futex_waitv\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        "100.00    0.004342          12      1241       210 total\n"
    )
    assert calls_in(table, "futex") == 1234
    assert calls_in(table, "fdatasync") == 0
