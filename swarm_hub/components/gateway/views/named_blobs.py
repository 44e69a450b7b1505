"""What a submission names by hash, as it was uploaded before, instead of sending it."""

from contextlib import AsyncExitStack
from typing import Final

from swarm_hub.components.gateway.submission.uploads import Uploads
from swarm_hub.exceptions import InvalidInput, NotFound, TooLarge
from swarm_hub.models.submission import DatasetPart
from swarm_hub.util.bounds import is_text
from swarm_hub.util.hashing import SHA256_HEX

FILE_NAME_MAX_CHARS: Final = 4096
# Each is open until the request is answered.
_NAMED_MAX: Final = 256


class NamedBlobs:
    """What a request names by hash instead of sending it."""

    def __init__(self, uploads: Uploads, owner: str, files: AsyncExitStack) -> None:
        self._uploads = uploads
        self._owner = owner
        self._files = files
        self._n_files = 0

    async def module(self, sha: object) -> bytes:
        """Return a module; raises NotFound for one that the owner may not name."""
        if not (isinstance(sha, str) and SHA256_HEX.match(sha)):
            raise InvalidInput("no_module", "module_sha: expected 64 hexadecimal digits")
        if (module := await self._uploads.module(self._owner, sha)) is None:
            raise NotFound("unknown_module", f"there is no module {sha} here; send its bytes")
        return module

    async def dataset(self, name: str, sha: object) -> DatasetPart:
        """Return a file of a dataset, to read until the request is answered."""
        self._n_files += 1
        if self._n_files > _NAMED_MAX:
            raise TooLarge("too_many_files", f"at most {_NAMED_MAX} files can be named by hash")
        if not (isinstance(sha, str) and SHA256_HEX.match(sha)):
            raise InvalidInput("no_dataset", "dataset_sha: expected 64 hexadecimal digits")
        return await self._files.enter_async_context(self._uploads.dataset(self._owner, name, sha))

    async def datasets(self, listed: object) -> tuple[DatasetPart, ...]:
        """Return the files of a list of [name, hash]; one hash alone is a file without a name."""
        if listed is None:
            return ()
        pairs = [["", listed]] if isinstance(listed, str) else listed
        if not isinstance(pairs, list) or not all(map(_is_hashed, pairs)):
            raise InvalidInput("no_dataset", "dataset_sha: expected a list of [name, SHA-256]")
        return tuple([await self.dataset(name, sha) for name, sha in pairs])


def _is_hashed(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and is_text(value[0], FILE_NAME_MAX_CHARS)
