"""The files behind stdin and stdout of a command, and the tail of its stderr."""

import os

from .limits import bound_files
from .workspace import Directory, Workspace

STDERR_BYTES_MAX = 4096


class Scratch:
    """Two files, in memory if the system allows it, else in the private directory."""

    def __init__(self) -> None:
        # The only place where this process may open files once the fence is up, so it must exist
        # before. The hub removes it with everything in it when this process has ended.
        self.directory = f"room.{os.getpid()}"
        os.makedirs(self.directory, 0o700, exist_ok=True)
        self._stdin, self.stdin_path = self._open("stdin")
        self._stdout, self.stdout_path = self._open("stdout")
        self._stderr = bytearray()
        self.room = Workspace(self.directory)

    def prepare(
        self,
        body: bytes | bytearray,
        output_bytes: int,
        *,
        as_files: bool,
        script: tuple[str, str] | None,
    ) -> list[Directory]:
        """Put the shard behind stdin or into files, empty the rest and let the kernel bound stdout.

        A write past the limit is cut short at it; the next one kills this process with
        SIGXFSZ, so a flood ends at once and never fills memory or disk. Returns the directories
        that the command may see.
        """
        self._stderr.clear()
        bound_files(None)
        os.ftruncate(self._stdin, 0)
        directories = []
        if as_files:
            self.room.fill(body)
            directories += [self.room.items, self.room.results]
        else:
            self._put(body)
        if script is not None:
            self.room.keep_script(*script)
            directories.append(self.room.scripts)
        os.ftruncate(self._stdout, 0)
        bound_files(output_bytes + 1)
        return directories

    def _put(self, body: bytes | bytearray) -> None:
        at = 0
        with memoryview(body) as view:
            while at < len(view):
                at += os.pwrite(self._stdin, view[at:], at)

    def read_stdout(self, size_bytes: int) -> bytes:
        """Return at most this many bytes of what the command wrote."""
        size_bytes = min(size_bytes, os.fstat(self._stdout).st_size)
        output = os.pread(self._stdout, size_bytes, 0)
        while len(output) < size_bytes:
            chunk = os.pread(self._stdout, size_bytes - len(output), len(output))
            if not chunk:
                break
            output += chunk
        return output

    def hear_stderr(self, chunk: bytes) -> int:
        """Keep the last few kilobytes; the rest is dropped so that chatty commands can continue."""
        self._stderr += chunk[-STDERR_BYTES_MAX:]
        if len(self._stderr) > STDERR_BYTES_MAX:
            del self._stderr[:-STDERR_BYTES_MAX]
        return len(chunk)

    def forget_stderr(self) -> None:
        """Forget what was written to stderr so far."""
        self._stderr.clear()

    def stderr_text(self) -> str:
        """Return the tail of what the command wrote to stderr."""
        return self._stderr.decode(errors="replace").strip()

    def _open(self, name: str) -> tuple[int, str]:
        create = getattr(os, "memfd_create", None)
        if create is not None:
            descriptor: int = create(name)
            path = f"/proc/self/fd/{descriptor}"
            if os.path.exists(path):
                return descriptor, path
            os.close(descriptor)
        path = os.path.join(self.directory, name)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), path
