"""A server that webhooks are sent to: it keeps what came and answers as it is told."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Receiver:
    """`port` is where it listens on this device."""

    port: int = 0
    # Key, path and body of each request.
    got: list[tuple[str, str, str]] = field(default_factory=list)
    answer: Callable[[], web.Response] = lambda: web.Response(text="fine")

    async def handle(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        self.got.append((key, request.path_qs, (await request.read()).decode()))
        return self.answer()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Listen on a port of this device as long as it is entered."""
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()
