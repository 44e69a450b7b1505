"""The files of the page: read at the first look, and served below a name made of their hash.

Files below the hash never change, so browsers keep them; the first page alone is asked for again
each time. They refer to each other by relative paths, as the hash is part of all their addresses.
"""

import asyncio
import hashlib
import html
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_hub.endpoints import Answer, Blob, Place, Request, Scope, Unchanged, View
from swarm_hub.exceptions import NotFound

_FOLDER: Final = Path(__file__).parent / "page"
_FIRST: Final = "index.html"
_OWN: Final = "own"
_BASE: Final = b"{{base}}"
_PRELOADS: Final = b"{{preloads}}"
# What the page runs at first. Its browser is told at once what these import, however deep: to find
# that out one file after the other costs a phone seconds.
_BEGINS_WITH: Final = ("main.js", "views/overview.js")
_IMPORTS: Final = re.compile(r'^import\b[^;]*?"(\.[^"]+)";', re.MULTILINE)
_HASH_CHARS: Final = 16
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# The page asks nobody but this hub, runs nothing but its own files, and is nobody's frame.
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FOREVER: Final = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
_PART: Final = {"type": "string", "pattern": "^[a-z0-9_.-]{1,100}$"}
_PARTS: Final = {"version": _PART, "folder": _PART, "name": _PART}


@dataclass(frozen=True, slots=True)
class Assets:
    """The page's files by their paths below its folder, and the hash of all of them.

    The modules of `places`, which components bring, are in a folder of their own.
    """

    version: str
    files: dict[str, bytes]
    places: tuple[Place, ...] = ()

    @property
    def first(self) -> bytes:
        """What is served at the hub's address."""
        base = f"/frontend/{self.version}"
        links = [
            f'<link rel="modulepreload" href="{base}/{name}">' for name in imported(self.files)
        ]
        links += [
            f'<meta name="place" content="{html.escape(f"{each.name}|{each.scope}|{each.title}")}">'
            for each in self.places
        ]
        page = self.files[_FIRST].replace(_PRELOADS, "\n".join(links).encode())
        return page.replace(_BASE, base.encode())


def read(folder: Path = _FOLDER, places: Sequence[Place] = ()) -> Assets:
    """Read the files of a page, and of the places that components have on it."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES
    }
    files |= {f"{_OWN}/{each.name}.js": each.read() for each in places}
    summed = hashlib.sha256()
    for name, body in files.items():
        summed.update(f"{name}\0{len(body)}\0".encode() + body)
    return Assets(summed.hexdigest()[:_HASH_CHARS], files, tuple(places))


def imported(files: Mapping[str, bytes]) -> list[str]:
    """Return the modules that the page begins with, and those that these import."""
    found: list[str] = []
    for first in filter(files.__contains__, _BEGINS_WITH):
        # What comes first is fetched first: before the view that of which it is made.
        found.append(first)
        for name in found:
            for path in _IMPORTS.findall(files[name].decode()):
                other = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
                if other not in found:
                    found.append(other)
    return found


def views(places: Callable[[], Sequence[Place]]) -> tuple[View, ...]:
    """Return the views; anyone may read the page, which has nothing that a hub knows."""
    found: list[Assets] = []

    async def assets() -> Assets:
        if not found:
            found.append(await asyncio.to_thread(read, places=places()))
        return found[0]

    async def first(request: Request) -> Answer:
        """Return the page, which shows this hub to a person with a browser."""
        page = await assets()
        if request.has_version(page.version):
            return Unchanged(page.version, forever=False)
        told = {**_HEADERS, "ETag": f'W/"{page.version}"', "Cache-Control": "no-cache"}
        return Blob(page.first, "text/html", told=told)

    async def file(request: Request) -> Blob:
        """Return a file of the page; its address changes with what is in any of them."""
        page, path = await assets(), request.path
        name = "/".join(path[part] for part in ("folder", "name") if part in path)
        body = page.files.get(name) if path["version"] == page.version else None
        if body is None:
            raise NotFound("not_found", "the page has no such file; load it anew")
        return Blob(body, _TYPES[f".{name.rpartition('.')[2]}"], told=_FOREVER, kept=True)

    return (
        View(
            "GET", "/", first, Scope.PUBLIC, bytes, outside=True, versioned=True,
            media_types=("text/html",),
        ),
        *(
            View(
                "GET", f"/frontend/{{version}}/{below}", file, Scope.PUBLIC, bytes, outside=True,
                errors=(NotFound,), media_types=tuple(_TYPES.values()), path_values=_PARTS,
            )
            for below in ("{name}", "{folder}/{name}")
        ),
    )  # fmt: skip
