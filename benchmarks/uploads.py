"""What uploads cost the API: parts of a form, files of an archive, items of a JSON dataset.

    python benchmarks/uploads.py [--quick] [--json]

Each figure is CPU time of this process alone, which parses; nothing is stored.
"""

import argparse
import asyncio
import io
import json
import tarfile
import time
from typing import Any

from aiohttp import web

from swarm_hub.components.api.bodies import FormReader
from swarm_hub.components.gateway.submission.uploaded_archive import unpack
from swarm_hub.util import json_items


async def parts_us(n_parts: int) -> float:
    """Return the CPU time of a part of a form, in microseconds."""
    took: list[float] = []

    async def read(request: web.Request) -> web.Response:
        began = time.process_time()
        count = 0
        async for part in FormReader(request, lambda _: None):
            count += 1
            while await part.read_chunk():
                pass
        took.append((time.process_time() - began) / count * 1e6)
        return web.Response()

    application = web.Application(client_max_size=2**30)
    application.router.add_post("/", read)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    head = (
        '--b\r\nContent-Disposition: form-data; name="dataset"; filename="{}.txt"\r\n'
        "Content-Type: application/octet-stream\r\n\r\nhello\r\n"
    )
    body = b"".join(head.format(number).encode() for number in range(n_parts)) + b"--b--\r\n"
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    await reader.read()
    writer.close()
    await runner.cleanup()
    return took[0]


def archive_us(n_files: int) -> float:
    """Return the CPU time of a file of an archive, in microseconds."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(n_files):
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = 5
            archive.addfile(member, io.BytesIO(b"hello"))
    body = packed.getvalue()
    began = time.process_time()
    assert len(unpack(body)) == n_files
    return (time.process_time() - began) / n_files * 1e6


def json_us(n_items: int) -> float:
    """Return the CPU time of an item of a JSON dataset, in microseconds."""
    body = b"[" + b",".join(b'{"n": %d}' % number for number in range(n_items)) + b"]"
    chunks = (body[at : at + 262_144] for at in range(0, len(body), 262_144))
    began = time.process_time()
    assert sum(1 for _ in json_items.as_lines(json_items.items(chunks))) == n_items
    return (time.process_time() - began) / n_items * 1e6


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the items")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    found: dict[str, Any] = {
        "part_us": asyncio.run(parts_us(10_000 // share)),
        "archived_file_us": archive_us(100_000 // share),
        "json_item_us": json_us(1_000_000 // share),
    }
    for name, value in found.items():
        figure = {"name": name, "value": round(value, 2), "unit": "us"}
        print(json.dumps(figure) if options.json else f"{name:20} {value:8.2f} us")


if __name__ == "__main__":
    main()
