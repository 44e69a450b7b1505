"""The files of the configuration: read, written one at a time, checked, and started with."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypedDict
from urllib.parse import unquote

from swarm_hub.const import CONFIG_FILE, CUSTOM_COMPONENTS_DIR, STORAGE_DIR
from swarm_hub.core import Hub, HubState
from swarm_hub.endpoints import Blob, Json, RawBody, Request, Scope, Success, View
from swarm_hub.exceptions import (
    Conflict,
    Forbidden,
    InvalidInput,
    MalformedRequest,
    NotFound,
    ProblemShape,
    RequestError,
    StorageFull,
)
from swarm_hub.util.files import write_atomic

FILE_MAX_BYTES: Final = 1024 * 1024
EDITED_DIR: Final = "edited"
# Copies of a file as it was before it was written, of which the newest are kept.
_COPIES_KEPT: Final = 10
_FILES_MAX: Final = 1000
_YAML: Final = "application/yaml"
_PLAIN: Final = "text/plain"
_BODY: Final = RawBody(dict.fromkeys((_YAML, "text/yaml", _PLAIN), "the whole file, in UTF-8"))
_NAME: Final = {
    "name": {"type": "string", "maxLength": 200, "description": "with / written as %2F"}
}
_ETAG: Final = {"type": "string", "description": "The ETag of the version that is replaced."}
_ANSWER_TO_START_S: Final = 0.25


class ConfigFile(TypedDict):
    """A file of the configuration; `etag` names its content."""

    name: str
    size_bytes: int
    etag: str


class ConfigFiles(TypedDict):
    """The YAML files of the configuration directory."""

    files: list[ConfigFile]


class Checked(TypedDict):
    """Whether a hub can start with the configuration, and if not, why."""

    valid: bool
    problems: list[ProblemShape]


class Written(Checked):
    """The file as it is now, and what is wrong with the configuration of which it is a part.

    `copy` is where the file is kept as it was, relative to the directory.
    """

    name: str
    etag: str
    copy: str


def config_views(hub: Hub, is_local: Callable[[], bool]) -> tuple[View, ...]:
    """Return the views; all of them are for administrators.

    Whoever writes the configuration decides which commands this device runs, which is more than a
    token may do from afar: files are for an API that is `local`, listening on this device alone.
    """
    folder, writing = hub.config_dir, asyncio.Lock()

    def refuse_others() -> None:
        if not is_local():
            raise Forbidden(
                "only_on_this_device",
                "this hub's API is open to others, so its files are edited on its device; "
                "then: swarm-hub reload",
            )

    async def listed(_request: Request) -> Json:
        """List the YAML files of the configuration directory."""
        refuse_others()
        answer: ConfigFiles = {"files": await asyncio.to_thread(_listed, folder)}
        return Json(answer)

    async def read(request: Request) -> Blob:
        """Return one file as it is written."""
        refuse_others()
        body = await asyncio.to_thread(_read, folder, _name(request))
        told = {"ETag": f'"{_etag(body)}"', "Cache-Control": "no-store"}
        # Not as YAML, which programs would read into values: what counts is how it is written.
        return Blob(body, _PLAIN, told=told)

    async def write(request: Request) -> Json:
        """Replace one file, of the version that If-Match names, and check the configuration."""
        refuse_others()
        name, expected = _name(request), request.header("If-Match")
        if expected is None:
            raise MalformedRequest(
                "no_version", "If-Match: say which version this replaces, by the ETag of its GET"
            )
        body = await request.read(FILE_MAX_BYTES)
        _refuse_content(body)
        async with writing:
            try:
                copy = await asyncio.to_thread(_replace, folder, name, body, expected)
            except OSError as error:
                raise StorageFull("not_written", f"{name}: {error.strerror}") from error
            problems = await _problems()
        answer: Written = {
            "name": name, "etag": _etag(body), "copy": copy,
            "valid": not problems, "problems": problems,
        }  # fmt: skip
        return Json(answer)

    async def check(_request: Request) -> Json:
        """Check the configuration as it is in its files now."""
        problems = await _problems()
        answer: Checked = {"valid": not problems, "problems": problems}
        return Json(answer)

    async def start(_request: Request) -> Json:
        """Leave recovery: start the hub with the configuration as it is in its files now."""
        if hub.state is not HubState.RECOVERY:
            raise Conflict("not_in_recovery", "this hub runs; only a recovery can be left")
        problems = await _problems()
        if problems:
            first = problems[0]
            raise InvalidInput(
                "invalid_configuration",
                f"{first['file']}:{first['line'] or 0}: {first['message']}",
                [{"path": each["path"], "message": each["message"]} for each in problems],
            )
        # Later than this is answered.
        asyncio.get_running_loop().call_later(_ANSWER_TO_START_S, hub.start_again)
        answer: Checked = {"valid": True, "problems": []}
        return Json(answer, Success.ACCEPTED)

    async def _problems() -> list[ProblemShape]:
        found = await asyncio.to_thread(hub.check_configuration)
        return [each.shape() for each in found]

    changes: tuple[type[RequestError], ...] = (
        Conflict, Forbidden, InvalidInput, MalformedRequest, NotFound, StorageFull,
    )  # fmt: skip
    admin = partial(View, scope=Scope.ADMIN)
    return (
        admin("GET", "/config/files", listed, answer=ConfigFiles, errors=(Forbidden,)),
        admin(
            "GET", "/config/files/{name}", read, answer=bytes, errors=(Forbidden, NotFound),
            media_types=(_PLAIN,), path_values=_NAME, answer_headers={"ETag": "Its version."},
        ),
        admin(
            "PUT", "/config/files/{name}", write, answer=Written, body=_BODY, errors=changes,
            path_values=_NAME, request_headers={"If-Match": _ETAG},
        ),
        admin("POST", "/config/check", check, answer=Checked),
        admin(
            "POST", "/config/start", start, answer=Checked, errors=(Conflict, InvalidInput),
            successes=(Success.ACCEPTED,),
        ),
    )  # fmt: skip


def _name(request: Request) -> str:
    # A slash in it is %2F, or it would be another path.
    return unquote(request.path["name"])


def _names(folder: Path) -> list[str]:
    """Return what may be read and written, relative to the directory.

    These are the files of a backup: none that a link leads to from outside, none of a hidden folder
    and of another hub; and no code.
    """
    from swarm_hub.storage.backup.hub_files import configuration_files

    found = [
        name
        for name in configuration_files(folder)
        if not name.startswith(f"{CUSTOM_COMPONENTS_DIR}/")
    ]
    return (found if CONFIG_FILE in found else [CONFIG_FILE, *found])[:_FILES_MAX]


def _path(folder: Path, name: str) -> Path:
    if name not in _names(folder):
        raise NotFound("unknown_file", f"the configuration has no file {name}")
    return folder / name


def _read(folder: Path, name: str) -> bytes:
    try:
        with _path(folder, name).open("rb") as file:
            return file.read(FILE_MAX_BYTES)
    except OSError as error:
        raise NotFound("unknown_file", f"{name}: {error.strerror}") from error


def _listed(folder: Path) -> list[ConfigFile]:
    found: list[ConfigFile] = []
    for name in _names(folder):
        try:
            body = _read(folder, name)
        except NotFound:
            continue
        found.append({"name": name, "size_bytes": len(body), "etag": _etag(body)})
    return found


def _replace(folder: Path, name: str, body: bytes, expected: str) -> str:
    """Write a file whose version is expected; returns where it is kept as it was."""
    path = _path(folder, name)
    # A link inside the directory leads to a file that has a name of its own.
    if path.resolve() != folder.resolve() / name:
        raise Conflict("a_link", f"{name} is a link; write the file that it leads to")
    before = _read(folder, name)
    if expected.removeprefix("W/").strip('"') != _etag(before):
        raise Conflict("changed", f"{name} was changed meanwhile; read it again")
    copies = folder / STORAGE_DIR / EDITED_DIR
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    prefix = f"{name.replace('/', '%2F')}."
    copy = copies / f"{prefix}{stamp}"
    write_atomic(copy, before)
    for old in sorted(copies.glob(f"{prefix}*"))[:-_COPIES_KEPT]:
        old.unlink(missing_ok=True)
    write_atomic(path, body, mode=path.stat().st_mode & 0o777)
    return copy.relative_to(folder).as_posix()


def _refuse_content(body: bytes) -> None:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("not_utf8", f"byte {error.start}: a YAML file is UTF-8") from error
    if "\0" in text:
        raise InvalidInput("not_text", "a YAML file has no NUL in it")


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
