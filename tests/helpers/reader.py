"""Somebody who types what the pages say, on a machine that has a fresh home and a clone.

Commands are forked from the warm server: bash calls a small program, which has this process run
`swarm-hub` with its arguments, its folder and its files.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.mesh import parse_join_link
from swarm_hub.const import CONFIG_FILE
from swarm_hub.control.client import ask
from swarm_hub.exceptions import HubError
from tests.helpers import warm
from tests.helpers.runtimes import give, prepared
from tests.helpers.snippets import ROOT

_WITHIN_S: Final = 180.0
_ORDER_BYTES_MAX: Final = 1 << 17
_NOT_IN_A_CLONE: Final = {".venv", ".git", "build"}
_ASSIGNMENT: Final = re.compile(r"^[A-Z_]+=.*\n", re.MULTILINE)
# A request that is refused is an error, as is a command that fails.
# What the examples of the client ask about.
_AUTOMATION: Final = (
    "automation: [{alias: Greet, trigger: {cron: 0 0 1 1 *}, action: {notify: hello}}]\n"
)
_CURL: Final = "fail-with-body\nno-progress-meter\n"
_PROGRAM: Final = f"""#!{sys.executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as hub:
    hub.connect(os.environ["READER_SOCKET"])
    order = {{"arguments": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}
    socket.send_fds(hub, [json.dumps(order).encode()], [0, 1, 2])
    sys.exit(int(hub.recv(16)))
"""


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that a page had started; `outliving` asks for its pid."""

    folder: Path
    process: warm.Process

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid


class Reader:
    """Types code; what a page leaves to fill in is filled in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.home = folder / "home"
        self.clone = folder / "clone"
        self.hubs: list[RunningHub] = []
        self._port = free_port()
        # Where the last `init` or `join` went that could not go where the hub is.
        self._elsewhere: list[Path] = []
        self._env = {
            name: text for name, text in os.environ.items() if not name.startswith("SWARM_HUB")
        } | {
            "HOME": str(self.home),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "READER_SOCKET": str(folder / "socket"),
            "COLUMNS": "100",
        }  # fmt: skip
        # What the blocks of a page have set for those that follow.
        self._set = ""
        # What a page leaves to fill in, and how it is found.
        self._blanks: dict[str, Callable[[], str]] = {
            r"127\.0\.0\.1:8470": lambda: f"127.0.0.1:{self._port}",
            r"/tmp/second": lambda: str(folder / "second"),
            r"\bNEW_DIR\b": lambda: str(folder / f"new-{time.monotonic_ns()}"),
            r"swarmhub://join/1/…": self._link,
            r"\bADDRESS\b": lambda: parse_join_link(self._link()).addresses[0],
            r"\bPUBLIC_KEY\b|<public key of B>": (
                lambda: parse_join_link(self._link()).public_key.hex()
            ),
            r"\bTOKEN_ID\b": self._token_id,
            r"01M8…": self._newest_job,
            r"\bFILE\b": lambda: str(sorted((self.folder / "backups").iterdir())[-1]),
        }  # fmt: skip

    @property
    def folder(self) -> Path:
        """The configuration directory of the hub that all pages talk to."""
        return self.home / ".config" / "swarm_hub"

    @contextlib.contextmanager
    def at_work(self) -> Iterator["Reader"]:
        """Have a home, a clone and a hub, made and run as the pages say."""
        self._make_folders()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(self._env["READER_SOCKET"])
            listening.listen()
            server = threading.Thread(target=self._serve, args=(listening,), daemon=True)
            server.start()
            try:
                self.output("swarm-hub init")
                give(asyncio.run(prepared("python", self._folder)), self.folder)
                self.output("swarm-hub run && swarm-hub token create spare")
                yield self
            finally:
                self._stop_but(0)
                listening.shutdown(socket.SHUT_RDWR)
                server.join()

    def turn_page(self) -> None:
        """End the hubs that a page had started, and forget what it has set."""
        self._stop_but(1)
        self._set = ""

    def filled_in(self, code: str) -> str:
        """Return code with what a reader puts in for the words that stand for something."""
        if "PATCH" in code:
            # Only a job that has not ended can be changed.
            code = code.replace("01M8…", self._waiting_job())
        for blank, found in self._blanks.items():
            if re.search(blank, code):
                code = re.sub(blank, found(), code)
        return code

    def type(self, code: str) -> "subprocess.CompletedProcess[str]":
        """Have bash run code in the clone; it stops at the first command that fails."""
        code = self._set + self.filled_in(code)
        self._set = "".join(_ASSIGNMENT.findall(code))
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.clone, env=self._env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=_WITHIN_S,
        )  # fmt: skip

    def output(self, code: str) -> str:
        """Return what code printed; fail where it does."""
        done = self.type(code)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _stop_but(self, kept: int) -> None:
        while len(self.hubs) > kept:
            process = self.hubs.pop().process
            process.terminate()
            process.wait(_WITHIN_S)

    def _make_folders(self) -> None:
        for folder in (self.home, self.clone / ".venv" / "bin", self._folder / "bin"):
            folder.mkdir(parents=True)
        for path in ROOT.iterdir():
            if path.name not in _NOT_IN_A_CLONE:
                (self.clone / path.name).symlink_to(path)
        (self.home / ".curlrc").write_text(_CURL)
        program = self._folder / "bin" / "swarm-hub"
        program.write_text(_PROGRAM)
        program.chmod(0o755)
        (self.clone / ".venv" / "bin" / "swarm-hub").symlink_to(program)

    def _link(self) -> str:
        return self.output("swarm-hub invite").strip()

    def _newest_job(self) -> str:
        return str(json.loads(self.output("swarm-hub job list --json"))[0]["job_id"])

    def _waiting_job(self) -> str:
        job = "examples/primes/primes.wat --range 0:10 --on room=attic"
        return self.output(f"swarm-hub submit {job}").strip()

    def _token_id(self) -> str:
        return str(json.loads(self.output("swarm-hub token list --json"))[-1]["id"])

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,)).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.ExitStack() as opened:
            raw, descriptors, _, _ = socket.recv_fds(connection, _ORDER_BYTES_MAX, 3)
            files: list[Any] = [
                opened.enter_context(os.fdopen(each, "r+b" if number else "rb", buffering=0))
                for number, each in enumerate(descriptors)
            ]
            order = json.loads(raw)
            code = self._run(order["arguments"], order["cwd"], files)
            connection.sendall(b"%d" % (code if code >= 0 else 128 - code))

    def _run(self, arguments: list[str], cwd: str, files: list[Any]) -> int:
        command = arguments[0] if arguments else ""
        if command == "run":
            return self._start(Path(cwd), arguments[1:])
        arguments = self._adapted(command, arguments)
        process = warm.start(
            "swarm_hub", arguments, stdin=files[0], stdout=files[1], stderr=files[2],
            env=self._env, cwd=cwd,
        )  # fmt: skip
        code = process.wait(_WITHIN_S)
        if command == "init" and code == 0 and not self.hubs:
            # Hubs of other tests are none of this reader's.
            path = self.folder / CONFIG_FILE
            text = path.read_text().replace("\nmesh:\n", "\nmesh:\n  mdns: false\n")
            path.write_text(text + _AUTOMATION)
        return code

    def _adapted(self, command: str, arguments: list[str]) -> list[str]:
        """Return a command with free ports, and for another device if the hub is on this one."""
        if command == "init":
            port = free_port() if self.hubs else self._port
            arguments = [*arguments, "--port", str(port), "--mesh-port", str(free_port())]
        if command in ("init", "join") and "-c" not in arguments and self.hubs:
            self._elsewhere.append(self._folder / f"device-{time.monotonic_ns()}")
            arguments = [*arguments, "-c", str(self._elsewhere[-1])]
        return arguments

    def _start(self, cwd: Path, arguments: list[str]) -> int:
        """Run a hub beside what follows; returns once it answers."""
        if "-c" in arguments:
            folder = cwd / arguments[arguments.index("-c") + 1]
        else:
            folder = self._elsewhere.pop() if self._elsewhere else self.folder
        if any(hub.folder == folder for hub in self.hubs):
            return 0
        process = warm.start("swarm_hub", ["run", "-c", folder], env=self._env)
        self.hubs.append(RunningHub(folder, process))
        deadline = time.monotonic() + _WITHIN_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(HubError):
                ask(folder, "status")
                return 0
            time.sleep(0.02)
        return 1
