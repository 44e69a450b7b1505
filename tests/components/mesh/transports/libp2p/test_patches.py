"""Each patch of libp2p: the defect it is for still exists, and the patch mends it.

A failure of a `test_the_library_…` means that a newer libp2p has mended something itself: take
the patch out of patches.py.
"""

import contextlib
import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p
from swarm_hub.components.mesh.wire.limits import TransportLimits

import_libp2p()

import libp2p  # noqa: E402 - only after the lean import
from libp2p.io.abc import Reader  # noqa: E402
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError  # noqa: E402
from libp2p.stream_muxer.exceptions import MuxedStreamError  # noqa: E402

from swarm_hub.components.mesh.transports.libp2p import limits as libp2p_limits  # noqa: E402
from swarm_hub.components.mesh.transports.libp2p import patches as libp2p_patches  # noqa: E402
from swarm_hub.components.mesh.transports.libp2p import policy as libp2p_policy  # noqa: E402

_T = TypeVar("_T")


def unpatched(name: str) -> ModuleType:
    """A fresh copy of a module of the library, next to the patched one."""
    path = libp2p.__path__[0] + name.removeprefix("libp2p").replace(".", "/") + ".py"
    spec = importlib.util.spec_from_file_location(f"{name}_unpatched", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(function: Callable[[], Awaitable[_T]]) -> _T:
    """Run in trio with a clock that jumps, so that waiting costs no time."""
    return trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_patches_are_for_the_installed_version() -> None:
    assert version("libp2p") == libp2p_patches.VERSION, "check every patch against the new version"


# read_exactly


class Trickle(Reader):
    """Gives one byte a read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, n: int | None = None) -> bytes:
        assert n != 0
        byte, self._data = self._data[:1], self._data[1:]
        return byte


def test_the_library_gives_up_a_message_that_trickles_in() -> None:
    read_exactly = unpatched("libp2p.io.utils").read_exactly
    with pytest.raises(IncompleteReadError):
        run(lambda: read_exactly(Trickle(b"x" * 500), 500))


def test_a_message_that_trickles_in_is_read() -> None:
    assert run(lambda: libp2p_patches.read_exactly(Trickle(b"x" * 500), 500)) == b"x" * 500


def test_the_end_of_the_stream_is_told_with_what_was_read() -> None:
    with pytest.raises(IncompleteReadError) as caught:
        run(lambda: libp2p_patches.read_exactly(Trickle(b"abc"), 5))
    assert (caught.value.expected_bytes, caught.value.received_bytes) == (5, 3)


# Yamux


class FakeConnection:
    """Takes the frames of a yamux stream and never answers by itself."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.stream_buffers: dict[int, bytearray] = {}

    async def _write_frame(self, frame: bytes) -> None:
        self.frames.append(bytes(frame))

    def rtt(self) -> float:
        return 0.02


def test_the_library_splits_its_frames_over_two_noise_messages() -> None:
    from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH

    assert unpatched("libp2p.stream_muxer.yamux.yamux").MAX_MESSAGE_SIZE > MAX_PLAINTEXT_LENGTH
    assert libp2p_patches.YAMUX_FRAME_BYTES == MAX_PLAINTEXT_LENGTH


def test_the_library_gives_up_a_write_after_five_seconds_without_window() -> None:
    yamux = unpatched("libp2p.stream_muxer.yamux.yamux")

    async def write() -> float:
        began = trio.current_time()
        stream = yamux.YamuxStream(1, FakeConnection(), True)
        with pytest.raises(MuxedStreamError):
            await stream.write(b"x" * (yamux.DEFAULT_WINDOW_SIZE + 1))
        return trio.current_time() - began

    assert run(write) == pytest.approx(5, abs=0.2)


def test_a_write_waits_for_window_and_goes_on_when_there_is_some() -> None:
    async def write() -> list[int]:
        connection: Any = FakeConnection()
        stream = libp2p_patches.LeanYamuxStream(1, connection, True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, b"x" * (256 * 1024 + 10))
            await trio.sleep(20)
            stream.send_window += 100
        return [len(frame) - 12 for frame in connection.frames]

    sizes = run(write)
    assert sum(sizes) == 256 * 1024 + 10
    assert sizes[-1] == 10
    assert max(sizes) + 12 == libp2p_patches.YAMUX_FRAME_BYTES


def test_a_write_that_waits_ends_with_the_stream() -> None:
    async def write() -> None:
        connection: Any = FakeConnection()
        stream = libp2p_patches.LeanYamuxStream(1, connection, True)
        stream.send_window = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, b"x")
            await trio.testing.wait_all_tasks_blocked()
            stream.closed = True

    with pytest.raises(ExceptionGroup) as caught:
        run(write)
    assert caught.group_contains(MuxedStreamError)


def test_a_peer_that_exceeds_its_window_is_cut_off() -> None:
    broken_off: list[bool] = []

    class Connection(libp2p_patches.LeanYamux):
        def break_off(self) -> None:
            broken_off.append(True)

    async def exceed() -> None:
        secured: Any = SimpleNamespace(is_initiator=True)
        peer: Any = None
        stream = libp2p_patches.LeanYamuxStream(1, Connection(secured, peer), True)
        stream.recv_window -= stream.recv_window
        assert not broken_off
        stream.recv_window -= 1

    trio.run(exceed)
    assert broken_off


def test_the_library_reads_a_frame_of_any_length_and_we_do_not() -> None:
    asked: list[int] = []
    broken_off: list[bool] = []

    class Connection(libp2p_patches.LeanYamux):
        def break_off(self) -> None:
            broken_off.append(True)

    async def read(length: int) -> bytes:
        asked.append(length)
        return b""

    async def announce(kind: Callable[..., Any]) -> None:
        with contextlib.suppress(MuxedStreamError, IncompleteReadError):
            secured = SimpleNamespace(is_initiator=True, read=read)
            await kind(secured, None)._read_data_body(2**32 - 1)

    trio.run(announce, unpatched("libp2p.stream_muxer.yamux.yamux").Yamux)
    assert asked
    asked.clear()
    trio.run(announce, Connection)
    assert broken_off
    assert not asked


def test_the_library_buffers_what_exceeds_the_window() -> None:
    yamux = unpatched("libp2p.stream_muxer.yamux.yamux")
    source = inspect.getsource(yamux.Yamux.handle_incoming)
    assert "peer exceeded" in source
    assert source.index("extend(data)") < source.rindex("peer exceeded")


def made_by(module: ModuleType) -> type:
    """Return the class of the connection that the library makes, when it is told which."""

    async def make() -> type:
        muxers = module.MuxerMultistream({yamux_id: libp2p_patches.LeanYamux})

        async def select(*_: object) -> tuple[str, object]:
            return yamux_id, libp2p_patches.LeanYamux

        muxers._selector.select = select
        secured = SimpleNamespace(is_initiator=True)
        return type(await muxers.new_conn(secured, None))

    from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as yamux_id

    return trio.run(make)


def test_the_library_makes_another_muxer_than_it_is_told_and_we_have_ours() -> None:
    libp2p_patches.apply()
    name = "libp2p.stream_muxer.muxer_multistream"
    assert not issubclass(made_by(unpatched(name)), libp2p_patches.LeanYamux)
    assert made_by(importlib.import_module(name)) is libp2p_patches.LeanYamux


def opened(kind: Callable[..., Any], payload: bytes) -> tuple[list[int], bytes]:
    """Open a stream and write on it; returns the sizes of what was sent, and all of it."""
    sent: list[bytes] = []

    async def write(data: bytes) -> None:
        sent.append(bytes(data))

    async def open_and_write() -> None:
        connection = kind(SimpleNamespace(is_initiator=True, write=write), None)
        stream = await connection.open_stream()
        await stream.write(payload)

    run(open_and_write)
    return [len(each) for each in sent], b"".join(sent)


def test_the_library_opens_a_stream_with_a_message_of_its_own_and_we_do_not() -> None:
    libp2p_patches.apply()
    library = opened(unpatched("libp2p.stream_muxer.yamux.yamux").Yamux, b"hello")
    ours = opened(libp2p_patches.LeanYamux, b"hello")
    assert library == ([12, 12 + 5], ours[1])
    assert ours[0] == [12 + 12 + 5]


def test_a_frame_that_fills_a_noise_message_goes_by_itself() -> None:
    libp2p_patches.apply()
    sizes, _ = opened(libp2p_patches.LeanYamux, b"x" * libp2p_patches.YAMUX_FRAME_BYTES)
    assert sizes == [12, libp2p_patches.YAMUX_FRAME_BYTES, 12 + 12]


def test_streams_that_nobody_says_anything_on_are_not_held_back_without_end() -> None:
    libp2p_patches.apply()
    sent: list[int] = []

    async def write(data: bytes) -> None:
        sent.append(len(data))

    async def open_many() -> None:
        connection: Any = libp2p_patches.LeanYamux(
            SimpleNamespace(is_initiator=True, write=write),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
        )
        for _ in range(200):
            await connection.open_stream()

    run(open_many)
    assert sum(sent) > 200 * 12 - 2048


def test_streams_that_ended_unread_are_forgotten_when_the_next_one_comes() -> None:
    libp2p_patches.apply()

    async def end_unread() -> int:
        connection: Any = libp2p_patches.LeanYamux(
            SimpleNamespace(is_initiator=True),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
        )
        for number in range(2, 12, 2):
            stream = libp2p_patches.LeanYamuxStream(number, connection, False)
            stream.closed, stream._closed_at = True, 1.0
            connection.streams[number] = stream
            connection.stream_buffers[number] = bytearray(b"unread")
        await trio.sleep(62)
        connection.streams[12] = libp2p_patches.LeanYamuxStream(12, connection, False)
        await connection.new_stream_send_channel.send(connection.streams[12])
        assert await connection.accept_stream() is connection.streams[12]
        return len(connection.streams)

    assert run(end_unread) == 1


def released(stream: Any, reads: int) -> tuple[int, int]:
    """How many window updates `reads` reads of 4 KiB cause, and how far the window grows."""

    async def read() -> tuple[int, int]:
        stream.epoch_start = 0.0
        for _ in range(reads):
            stream.recv_window -= 4096
            await stream._auto_tune_and_send_window_update(bytes_read=4096)
        return len(stream.conn.frames), stream.target_recv_window

    return run(read)


def test_the_library_answers_every_read_and_grows_its_window_to_16_mib() -> None:
    yamux = unpatched("libp2p.stream_muxer.yamux.yamux")
    updates, _ = released(trio.run(_stream_of, yamux.YamuxStream), 256)
    assert updates > 128
    assert yamux.MAX_WINDOW_SIZE == 16 * 1024 * 1024


def test_the_window_stays_small_and_is_given_back_in_large_pieces() -> None:
    stream = trio.run(_stream_of, libp2p_patches.LeanYamuxStream)
    updates, window = released(stream, 2560)
    assert updates == 10 * 1024 * 1024 // (128 * 1024)
    assert window == libp2p_patches.WINDOW_BYTES
    assert stream.recv_window <= libp2p_patches.WINDOW_BYTES


async def _stream_of(kind: Callable[..., Any]) -> Any:
    return kind(1, FakeConnection(), True)


# Locks and reads


def test_a_free_trio_lock_still_reschedules_and_ours_does_not() -> None:
    async def others_ran(lock: Any) -> bool:
        ran = False

        async def other() -> None:
            nonlocal ran
            ran = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            # One pass of the scheduler runs what is ready in any order; twenty surely run it.
            for _ in range(20):
                async with lock:
                    pass
            return ran

    assert run(lambda: others_ran(trio.Lock())), "EagerLock is no longer needed"
    assert not run(lambda: others_ran(libp2p_patches.EagerLock()))


def test_the_eager_lock_excludes() -> None:
    async def overlap() -> int:
        lock, inside, most = libp2p_patches.EagerLock(), 0, 0

        async def enter() -> None:
            nonlocal inside, most
            async with lock:
                inside += 1
                most = max(most, inside)
                await trio.sleep(1)
                inside -= 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(enter)
        assert not lock.locked()
        return most

    assert run(overlap) == 1


class CountedSocket:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0
        self.socket = SimpleNamespace(setsockopt=lambda *_: None)

    async def receive_some(self, n: int) -> bytes:
        self.reads += 1
        taken, self.data = self.data[:n], self.data[n:]
        return taken


def test_the_library_reads_the_socket_for_every_piece_and_we_read_it_once() -> None:
    async def read_twice(kind: Callable[[Any], Any]) -> tuple[bytes, bytes, int]:
        socket = CountedSocket(b"hdBODY")
        stream = kind(socket)
        return await stream.read(2), await stream.read(4), socket.reads

    unpatched_stream = unpatched("libp2p.io.trio").TrioTCPStream
    assert run(lambda: read_twice(unpatched_stream)) == (b"hd", b"BODY", 2)
    libp2p_patches.apply()
    from libp2p.io.trio import TrioTCPStream

    assert run(lambda: read_twice(TrioTCPStream)) == (b"hd", b"BODY", 1)


def test_a_buffered_read_ends_with_the_socket() -> None:
    libp2p_patches.apply()
    from libp2p.io.trio import TrioTCPStream

    async def read() -> list[bytes]:
        stream: Any = TrioTCPStream(CountedSocket(b"abc"))  # type: ignore[arg-type]
        return [await stream.read(2), await stream.read(2), await stream.read(2)]

    assert run(read) == [b"ab", b"c", b""]


def test_a_write_larger_than_the_socket_takes_arrives_whole() -> None:
    libp2p_patches.apply()
    from libp2p.io.trio import TrioTCPStream

    async def pass_through(size: int) -> bytes:
        left, right = trio.socket.socketpair()
        writer, reader = (TrioTCPStream(trio.SocketStream(one)) for one in (left, right))
        received = bytearray()
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                await writer.write(bytes(range(256)) * (size // 256))
                await writer.close()

            nursery.start_soon(write)
            while chunk := await reader.read(1000):
                received += chunk
        await reader.close()
        # Writing to a stream that is closed here is silent, as in the library.
        await writer.write(b"late")
        return bytes(received)

    size = 4 * 1024 * 1024
    assert trio.run(pass_through, size) == bytes(range(256)) * (size // 256)


def test_writing_to_a_broken_connection_is_an_error() -> None:
    libp2p_patches.apply()
    from libp2p.io.trio import TrioTCPStream

    async def write() -> None:
        left, right = trio.socket.socketpair()
        right.close()
        with pytest.raises(ConnectionClosedError):
            await TrioTCPStream(trio.SocketStream(left)).write(b"x")
        left.close()

    trio.run(write)


# Which protocol is spoken


class Answers:
    """The other side of a negotiation, of which every answer is known."""

    def __init__(self, *answers: str) -> None:
        self._unread = b"".join(bytes((len(each) + 1,)) + f"{each}\n".encode() for each in answers)
        self.writes: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.writes.append(data)

    async def read(self, n: int | None = None) -> bytes:
        size = len(self._unread) if n is None else n
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken


GREETING = "/multistream/1.0.0"


def negotiated(answers: Answers, select: Callable[..., Awaitable[str]] | None = None) -> str:
    from libp2p.protocol_muxer.multiselect_client import MultiselectClient
    from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

    communicator: Any = MultiselectCommunicator(answers)  # type: ignore[arg-type]
    chosen = select or libp2p_patches.select_one_of
    return run(lambda: chosen(MultiselectClient(), ["/a", "/b", "/c"], communicator))


def test_the_library_waits_for_a_greeting_before_it_asks_and_we_do_not() -> None:
    library = unpatched("libp2p.protocol_muxer.multiselect_client").MultiselectClient
    asked, at_once = Answers(GREETING, "/a"), Answers(GREETING, "/a")
    assert negotiated(asked, library.select_one_of) == "/a"
    assert negotiated(at_once) == "/a"
    assert len(asked.writes) == 2
    assert at_once.writes == [b"".join(asked.writes)]


def test_a_peer_that_does_not_know_the_first_protocol_is_asked_for_the_others() -> None:
    answers = Answers(GREETING, "na", "na", "/c")
    assert negotiated(answers) == "/c"
    assert [write.split(b"\n")[0][1:] for write in answers.writes[1:]] == [b"/b", b"/c"]


@pytest.mark.parametrize(
    "answers",
    [("/http/1.1", "/a"), (GREETING, "na", "na", "na"), (GREETING, "/d"), (GREETING,), ()],
)
def test_a_peer_that_answers_anything_else_is_given_up(answers: tuple[str, ...]) -> None:
    from libp2p.protocol_muxer.exceptions import MultiselectClientError

    with pytest.raises(MultiselectClientError):
        negotiated(Answers(*answers))


def test_a_peer_that_answers_nothing_is_given_up() -> None:
    from libp2p.protocol_muxer.exceptions import MultiselectClientError

    class Silence(Answers):
        async def read(self, n: int | None = None) -> bytes:
            await trio.sleep_forever()
            raise AssertionError("unreachable")

    with pytest.raises(MultiselectClientError, match="no answer"):
        negotiated(Silence())


# Tasks


def started(manager: Any) -> tuple[int, int]:
    """Return how many tasks of a service ran, and at how many another was looked for."""
    ran: list[int] = []

    async def child(number: int) -> None:
        ran.append(number)

    class Service:
        _manager: Any = None

        async def run(self) -> None:
            for number in range(1100):
                service._manager.run_task(child, number)

    service = Service()
    with contextlib.suppress(ExceptionGroup):
        trio.run(manager(service).run)
    return len(ran), 1100


def test_the_library_bounds_the_tasks_of_a_service_and_we_do_not() -> None:
    libp2p_patches.apply()
    from libp2p.tools.anyio_service.trio_manager import TrioManager

    ran, asked = started(unpatched("libp2p.tools.anyio_service.trio_manager").TrioManager)
    assert ran < asked
    ran, asked = started(TrioManager)
    assert ran == asked


# Connections


def inbound(handle: Callable[..., Awaitable[None]]) -> bool:
    """Whether the task of an inbound connection ends when the connection closes."""

    async def accept() -> bool:
        closed = trio.Event()

        async def upgrade(*_: object) -> Any:
            return SimpleNamespace(event_closed=closed)

        async def close() -> None:
            return

        swarm = SimpleNamespace(
            _build_remote_multiaddr=lambda _: None,
            upgrade_inbound_raw_conn=upgrade,
            manager=SimpleNamespace(wait_finished=trio.sleep_forever),
        )
        with trio.move_on_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handle, swarm, SimpleNamespace(close=close), None, None)
                await trio.sleep(1)
                closed.set()
            return True
        return False

    return run(accept)


def test_the_library_keeps_the_slot_of_a_closed_inbound_connection() -> None:
    swarm = unpatched("libp2p.network.swarm").Swarm
    assert not inbound(swarm._do_handle_inbound_connection)
    assert inbound(libp2p_patches.handle_inbound_connection)


def test_the_library_shares_its_port_with_whoever_else_wants_it() -> None:
    def options(set_flags: Callable[[Any], None]) -> set[int]:
        found: set[int] = set()
        set_flags(SimpleNamespace(setsockopt=lambda _level, option, _value: found.add(option)))
        return found

    tcp = unpatched("libp2p.transport.tcp.tcp")
    assert trio.socket.SO_REUSEPORT in options(tcp._set_reuse_flags)
    assert options(libp2p_patches.reuse_address_only) == {trio.socket.SO_REUSEADDR}


def test_the_library_dials_peers_on_its_own_even_below_no_watermark() -> None:
    from libp2p.network.auto_connector import AutoConnector

    source = inspect.getsource(AutoConnector)
    assert "int((low_watermark + high_watermark) / 2)" in source


def test_the_library_refuses_for_a_minute_to_dial_a_peer_again() -> None:
    cache = unpatched("libp2p.network.swarm")._NegativePeerCache()
    cache.mark_failed("peer")
    assert cache.is_blocked("peer")
    cache.evict("peer")
    assert not cache.is_blocked("peer")


def test_the_library_retries_dials_and_has_no_option_for_it() -> None:
    from libp2p.network.config import RetryConfig

    assert RetryConfig().max_retries == 3
    assert "retry_config" not in inspect.signature(libp2p.new_host).parameters


def test_the_library_has_no_ban_by_peer_id() -> None:
    from libp2p.network.connection_gate import ConnectionGate

    assert not [name for name in dir(ConnectionGate) if "peer" in name]


def test_the_library_waits_for_a_frozen_peer_when_it_closes() -> None:
    yamux = unpatched("libp2p.stream_muxer.yamux.yamux")

    async def close() -> bool:
        async def never(_: bytes) -> None:
            await trio.sleep_forever()

        connection = SimpleNamespace(write=never, is_initiator=True)
        with trio.move_on_after(300) as scope:
            await yamux.Yamux(connection, None).close()
        return scope.cancelled_caught

    assert run(close)


def test_the_library_admits_connections_by_the_memory_of_the_whole_machine() -> None:
    import libp2p

    # It is not imported, as its place is taken.
    manager = Path(libp2p.__file__).parent / "rcmgr" / "manager.py"
    _, _, made = manager.read_text().partition("def new_resource_manager(")
    assert "enable_memory_limits: bool = True" in made.partition(") ->")[0]


def test_the_library_lets_an_error_of_one_stream_through_and_we_contain_it() -> None:
    from libp2p.network.connection.swarm_connection import SwarmConn

    handling = inspect.getsource(SwarmConn._handle_muxed_stream)
    assert "except" not in handling[handling.index("common_stream_handler") :]
    reset: list[bool] = []

    class Stream:
        muxed_conn = SimpleNamespace(peer_id="peer")

        async def reset(self) -> None:
            reset.append(True)

    async def fail(_: object) -> None:
        raise RuntimeError("on purpose")

    swarm: Any = SimpleNamespace(common_stream_handler=fail)
    swarm.set_stream_handler = lambda handler: setattr(swarm, "common_stream_handler", handler)
    libp2p_policy.contain_stream_errors(swarm)
    trio.run(swarm.common_stream_handler, Stream())
    assert reset


def test_streams_are_bounded_for_each_peer() -> None:
    streams = libp2p_limits.StreamLimits(TransportLimits(max_streams_per_peer=2))
    assert streams.acquire_stream("a", None)
    assert streams.acquire_stream("a", None)
    assert not streams.acquire_stream("a", None)
    assert streams.acquire_stream("b", None)
    streams.release_stream("a", None)
    assert streams.acquire_stream("a", None)


# Gossip


def test_the_library_has_gossip_defaults_of_no_use_here() -> None:
    from libp2p.pubsub.gossipsub import GossipSub

    defaults = inspect.signature(GossipSub).parameters
    assert defaults["heartbeat_interval"].default == 120
    assert defaults["max_messages_per_topic_per_second"].default == 10


def test_the_library_leaves_the_thread_of_its_gossip_cache_behind() -> None:
    assert "seen_messages.stop" not in inspect.getsource(unpatched("libp2p.pubsub.pubsub"))


# The lean import


def in_a_process(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def test_the_lean_import_leaves_out_what_the_hub_never_uses() -> None:
    loaded = in_a_process(
        "import json, sys\n"
        "from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p\n"
        "before = set(sys.modules)\n"
        "import_libp2p()\n"
        "from swarm_hub.components.mesh.transports.libp2p import host\n"
        "print(json.dumps(sorted({n.partition('.')[0] for n in set(sys.modules) - before})))\n"
    )
    unwanted = {"aioquic", "Crypto", "coincurve", "fastecdsa", "requests", "httpx", "dns"}
    assert unwanted.isdisjoint(loaded)
    assert "zeroconf" not in loaded


def test_multihash_alone_is_without_the_hashes_that_nobody_asks_for() -> None:
    assert in_a_process(
        "import hashlib, json, sys\n"
        "from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p\n"
        "import_libp2p()\n"
        "from multihash import digest, funcs\n"
        "assert not {'blake3', 'mmh3'} & sys.modules.keys()\n"
        "assert digest(b'x', 'sha2-256').digest == hashlib.sha256(b'x').digest()\n"
        "said = []\n"
        "for name in ('blake3', 'murmur3-128', 'murmur3-32'):\n"
        "    try:\n"
        "        digest(b'x', name)\n"
        "    except (AttributeError, KeyError):\n"
        "        said.append(name)\n"
        "import blake3\n"
        "assert len(blake3.blake3(b'x').digest()) == 32\n"
        "print(json.dumps(said))\n"
    ) == ["blake3", "murmur3-128", "murmur3-32"]


def test_addresses_do_without_netaddr_and_mean_the_same() -> None:
    assert in_a_process(
        "import json, sys\n"
        "from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p\n"
        "import_libp2p()\n"
        "from multiaddr import Multiaddr\n"
        "from multiaddr.exceptions import StringParseError\n"
        "told = ['/ip4/192.0.2.1/tcp/4001', '/ip6/2001:db8::1/tcp/1', '/ip6/::ffff:192.0.2.1']\n"
        "read = [str(Multiaddr(Multiaddr(each).to_bytes())) for each in told]\n"
        "assert Multiaddr('/ip4/192.0.2.1').to_bytes() == bytes([4, 192, 0, 2, 1])\n"
        "for wrong in ('/ip4/1', '/ip4/1.2.3.256', '/ip4/::1', '/ip6/1.2.3.4', '/ip6/x'):\n"
        "    try:\n"
        "        raise AssertionError(Multiaddr(wrong))\n"
        "    except StringParseError:\n"
        "        pass\n"
        "assert 'netaddr' not in sys.modules\n"
        "print(json.dumps(read))\n"
    ) == ["/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/1", "/ip6/::ffff:192.0.2.1"]


def test_what_stood_in_for_a_library_is_met_by_nobody_else() -> None:
    assert (
        in_a_process(
            "import json, sys\n"
            "from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p\n"
            "import_libp2p()\n"
            "left = [name for name in sys.modules if name.startswith('cryptography.x509')]\n"
            "import cryptography.x509, netaddr\n"
            "assert str(netaddr.IPAddress('1.2.3.4')) == '1.2.3.4'\n"
            "assert issubclass(cryptography.x509.InvalidVersion, Exception)\n"
            "print(json.dumps(left))\n"
        )
        == []
    )


def test_directions_are_the_librarys_own_without_its_resource_manager() -> None:
    assert (
        in_a_process(
            "import json, sys\n"
            "from swarm_hub.components.mesh.transports.libp2p.lean_import import import_libp2p\n"
            "import_libp2p()\n"
            "from libp2p.network.swarm import Direction\n"
            "from libp2p.rcmgr.metrics import Direction as real\n"
            "assert Direction is real\n"
            "print(json.dumps('libp2p.rcmgr.limits' in sys.modules))\n"
        )
        is False
    )


def test_mdns_is_imported_when_it_is_wanted() -> None:
    assert in_a_process(
        "import json\n"
        "from swarm_hub.components.mesh.transports.libp2p.lean_import import import_mdns\n"
        "print(json.dumps(import_mdns().MDNSDiscovery.__module__))\n"
    ) == ("libp2p.discovery.mdns.mdns")


KAD_DHT_LOADED = (
    "import asyncio, json, sys\n"
    "from types import SimpleNamespace\n"
    "from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport\n"
    "events = SimpleNamespace()\n"
    "async def run():\n"
    "    listen = ['/ip4/127.0.0.1/tcp/0']\n"
    "    transport = Libp2pTransport(bytes(32), listen=listen, content=%r)\n"
    "    await transport.start(events)\n"
    "    loaded = [n for n, m in sys.modules.items() if n.startswith('libp2p.kad_dht.')\n"
    "              and getattr(m, '__file__', None)]\n"
    "    await transport.stop()\n"
    "    return loaded\n"
    "print(json.dumps(asyncio.run(run())))\n"
)


def test_kademlia_is_imported_by_a_transport_that_finds_blobs_and_by_no_other() -> None:
    assert in_a_process(KAD_DHT_LOADED % False) == []
    loaded = in_a_process(KAD_DHT_LOADED % True)
    assert "libp2p.kad_dht.kad_dht" in loaded


def test_the_transports_and_their_types_need_neither_libp2p_nor_trio() -> None:
    assert (
        in_a_process(
            "import json, sys\n"
            "from swarm_hub.components.mesh import identity\n"
            "from swarm_hub.components.mesh.transports import base, loopback\n"
            "from swarm_hub.components.mesh.wire import framing\n"
            "import swarm_hub.components.mesh.transports.libp2p.transport\n"
            "print(json.dumps([name for name in ('libp2p', 'trio') if name in sys.modules]))\n"
        )
        == []
    )


def test_a_stub_can_be_named_and_not_used() -> None:
    stubbed: Any = importlib.import_module("libp2p.transport.quic.exceptions")
    assert issubclass(stubbed.QUICStreamClosedError, Exception)
    with pytest.raises(NotImplementedError, match="QUICStreamClosedError"):
        stubbed.QUICStreamClosedError()
    with pytest.raises(NotImplementedError, match="from_bytes"):
        stubbed.QUICStreamClosedError.from_bytes(b"")
