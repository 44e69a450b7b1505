"""Many files in one upload: a tar archive, as `tar` of any kind writes it, taken apart."""

import io
import tarfile
from typing import Final

from swarm_hub.exceptions import InvalidInput, TooLarge
from swarm_hub.models.blob import Readable, Slice
from swarm_hub.models.submission import DatasetPart
from swarm_hub.util.bounds import shown

FILES_MAX: Final = 1_000_000


def unpack(body: Readable) -> list[DatasetPart]:
    """Return the files of an archive in its order; raises RequestError.

    Directories are skipped; a link or a device is refused, as it means something else here.
    """
    source = io.BytesIO(body) if isinstance(body, bytes) else _File(body)
    parts: list[DatasetPart] = []
    try:
        with tarfile.open(fileobj=source, mode="r:") as archive:
            while (member := archive.next()) is not None:
                if member.isdir():
                    continue
                name = shown(member.name)
                if not member.isreg() or member.issparse():
                    raise InvalidInput("bad_archive", f"files: {name} is not a plain file")
                if len(parts) >= FILES_MAX:
                    raise TooLarge("too_many_files", f"at most {FILES_MAX} files")
                end = member.offset_data + member.size
                if not member.offset_data <= end <= len(body):
                    raise InvalidInput("bad_archive", f"files: the archive ends within {name}")
                file = Slice(body, member.offset_data, end)
                parts.append(DatasetPart(_base_name(member.name), file))
    except (tarfile.TarError, EOFError, ValueError, OverflowError, UnicodeError) as error:
        raise InvalidInput("bad_archive", f"files: not a tar archive: {error}") from None
    return parts


class _File(io.RawIOBase):
    """Bytes as a file that `tarfile` can read."""

    def __init__(self, body: Readable) -> None:
        self._body = body
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._body) if size < 0 else self._at + size
        found = self._body[self._at : end]
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._body)}
        self._at = begins[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at


def _base_name(path: str) -> str:
    # A browser or `tar c folder` gives paths; a dataset's files have names only.
    return path.rpartition("/")[2]
