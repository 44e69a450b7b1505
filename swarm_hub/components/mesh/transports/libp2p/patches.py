"""Patches of the code of libp2p 0.8.1; each names the defect that it mends.

`apply()` patches classes and module globals, once per process; `libp2p_policy` holds what is
set per host. tests/components/mesh/transports/libp2p/test_patches.py fails for each patch that a
newer libp2p has made unnecessary. Only imported in the trio thread, after `import_libp2p`. It is
long because all patches stand in one place, each with its defect.
"""

import os
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import trio
from libp2p.abc import IMuxedStream
from libp2p.custom_types import TProtocol
from libp2p.io import msgio as libp2p_msgio
from libp2p.io import utils as libp2p_io_utils
from libp2p.io.abc import Reader
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError, IOException
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.protocol_muxer.exceptions import (
    MultiselectClientError,
    MultiselectCommunicatorError,
    ProtocolNotSupportedError,
)
from libp2p.protocol_muxer.multiselect_client import (
    DEFAULT_NEGOTIATE_TIMEOUT,
    MULTISELECT_PROTOCOL_ID,
    PROTOCOL_NOT_FOUND_MSG,
    MultiselectClient,
)
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.transport.tcp import tcp
from libp2p.utils import encode_delim

from swarm_hub.components.mesh.transports.libp2p.keepalive import keep_alive
from swarm_hub.components.mesh.wire.traffic import TRAFFIC

VERSION = "0.8.1"
READ_BUFFER_BYTES = 256 * 1024
# One yamux frame in one Noise message: 65535 bytes less the 16 of its authentication tag.
YAMUX_FRAME_BYTES = 65519
# Bytes a peer may send ahead on one stream. 1 MiB keeps 50 MB/s busy at 20 ms round trip.
WINDOW_BYTES = 1024 * 1024
_WINDOW_WAIT_S = 60.0
# How the frames begin by which a stream is opened and accepted.
_OPENS = bytes((0, yamux.TYPE_WINDOW_UPDATE, 0, yamux.FLAG_SYN))
_ACCEPTS = bytes((0, yamux.TYPE_WINDOW_UPDATE, 0, yamux.FLAG_ACK))
_HELD_MAX_BYTES = 1024


def apply() -> None:
    """Apply every patch of classes and module globals; applying them again changes nothing."""
    # 0.8.1: read_exactly gives up after 100 reads, so a message that trickles in is a broken
    # connection. It was imported by name into its users.
    for module in (libp2p_io_utils, libp2p_msgio, yamux):
        module.read_exactly = read_exactly  # type: ignore[attr-defined]
    # 0.8.1: 64 KB yamux frames exceed a Noise message and are sent as two.
    yamux.MAX_MESSAGE_SIZE = YAMUX_FRAME_BYTES
    # 0.8.1: see LeanYamuxStream; the muxer makes its streams by this global name.
    yamux.YamuxStream = LeanYamuxStream  # type: ignore[misc]
    # 0.8.1: makes its own Yamux, whatever class it was given for that protocol.
    muxer_multistream.Yamux = LeanYamux  # type: ignore[attr-defined]
    # 0.8.1: asks whether both speak multistream, and only then for the protocol.
    MultiselectClient.select_one_of = select_one_of  # type: ignore[method-assign, assignment]
    # 0.8.1: looks through all tasks of a service for each one that begins, which is one a message
    # of gossip and three a connection, and gives a task no more than 1,000 children.
    TrioManager._find_parent_task = _no_parent  # type: ignore[method-assign, assignment]
    # 0.8.1: each inbound connection ever accepted keeps its slot and its task.
    Swarm._do_handle_inbound_connection = handle_inbound_connection  # type: ignore[method-assign]
    # 0.8.1: two reads from the socket per message, each behind a lock that reschedules.
    TrioTCPStream.read = buffered_read  # type: ignore[method-assign]
    if os.name == "posix":
        # 0.8.1: every write reschedules, even when the socket takes it at once.
        TrioTCPStream.write = eager_write  # type: ignore[method-assign]
    # 0.8.1: a silent connection stays silent, so that a NAT on its way forgets it.
    TrioTCPStream.__init__ = _tcp_stream_init  # type: ignore[method-assign]
    NetStream.__init__ = _net_stream_init  # type: ignore[method-assign]
    # 0.8.1: listens with SO_REUSEPORT, so a second hub on the same port takes every other
    # connection instead of failing to start.
    tcp._set_reuse_flags = reuse_address_only


class EagerLock:
    """A trio.Lock that does not reschedule when it is free.

    0.8.1 takes nine locks for one message, and each free `trio.Lock` costs a pass of the
    scheduler.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        return self._lock.locked()

    async def acquire(self) -> None:
        """Take the lock; waits only if it is held."""
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


class LeanYamux(yamux.Yamux):
    """Yamux with a message less a stream, a task less, and no rescheduling per lock and frame.

    It doesn't measure the RTT either.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.streams_lock = EagerLock()  # type: ignore[assignment]
        self._write_lock = EagerLock()  # type: ignore[assignment]
        # Frames that go with the next one.
        self._held = b""

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:
            if data[: len(_OPENS)] in (_OPENS, _ACCEPTS) and len(self._held) < _HELD_MAX_BYTES:
                # 0.8.1: opening and accepting a stream are messages of their own. Both sides say
                # at once which protocol is spoken on it, or reset it, and that takes these along.
                self._held += data
                return
            held, self._held = self._held, b""
            if len(held) + len(data) > YAMUX_FRAME_BYTES:
                await self.secured_conn.write(held)
                held = b""
            await self.secured_conn.write(held + data if held else data)

    async def accept_stream(self) -> IMuxedStream:
        """Wait for the next stream of the peer, then forget those that ended unread."""
        stream = await super().accept_stream()
        self._sweep_stale_streams()
        return stream

    async def _stale_stream_sweeper(self) -> None:
        # Done when the next stream comes, which needs no task a connection.
        return

    async def _read_data_body(self, length: int) -> bytes:
        # 0.8.1 takes whatever length a header names, up to 4 GiB.
        if length > WINDOW_BYTES:
            self.break_off()
            raise MuxedStreamError(f"A frame of {length} bytes exceeds any window")
        return await super()._read_data_body(length)

    def break_off(self) -> None:
        """Close the socket under the connection; everything above it then ends by itself."""
        tcp_stream(self).stream.socket.close()

    async def _measure_rtt_loop(self) -> None:
        # The RTT only steers the growth of windows, which have a fixed size here. Without its
        # pings the reading task never writes, so two full directions can't block each other.
        return


class LeanYamuxStream(yamux.YamuxStream):
    """A yamux stream with a bounded window that is waited for, not polled.

    0.8.1: a write polls every 10 ms for window and fails after 5 s; every read sends a
    WINDOW_UPDATE; the window grows to 16 MiB whether or not anybody reads; and what a peer sends
    beyond its window is buffered without end.
    """

    def __init__(self, stream_id: int, conn: yamux.Yamux, is_initiator: bool) -> None:
        self._changed = trio.Event()
        self._send_window = 0
        self._recv_window = 0
        self._closed = False
        super().__init__(stream_id, conn, is_initiator)
        self.window_lock = EagerLock()  # type: ignore[assignment]

    @property
    def send_window(self) -> int:
        """Bytes that may be sent."""
        return self._send_window

    @send_window.setter
    def send_window(self, size: int) -> None:
        opened = size > self._send_window
        self._send_window = size
        if opened:
            self._changed.set()

    @property
    def recv_window(self) -> int:
        """Bytes the peer may still send."""
        return self._recv_window

    @recv_window.setter
    def recv_window(self, size: int) -> None:
        self._recv_window = size
        if size < 0 and isinstance(self.conn, LeanYamux):
            self.conn.break_off()

    @property
    def closed(self) -> bool:
        """Whether the stream is closed in both directions."""
        return self._closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._closed = closed
        self._changed.set()

    async def write(self, data: bytes) -> None:
        """Write everything, waiting for window as long as the peer still reads."""
        view = memoryview(data)
        while view:
            if self.send_closed or self._closed:
                raise MuxedStreamError("Stream is closed for sending")
            size = min(self._send_window, YAMUX_FRAME_BYTES - yamux.HEADER_SIZE, len(view))
            if size <= 0:
                await self._wait_for_window()
                continue
            self._send_window -= size
            header = struct.pack(
                yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, self.stream_id, size
            )
            await self.conn._write_frame(b"".join((header, view[:size])))
            view = view[size:]

    async def _wait_for_window(self) -> None:
        self._changed = trio.Event()
        with trio.move_on_after(_WINDOW_WAIT_S) as scope:
            await self._changed.wait()
        if scope.cancelled_caught:
            raise MuxedStreamError(f"The peer has read nothing for {_WINDOW_WAIT_S:.0f} s")

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        self._pending_recv_release += bytes_read
        if self._pending_recv_release < yamux.DEFAULT_WINDOW_SIZE // 2:
            return
        release = self._pending_recv_release + WINDOW_BYTES - self.target_recv_window
        self.target_recv_window = WINDOW_BYTES
        self._pending_recv_release = 0
        self.recv_window += release
        await self.send_window_update(release)


def reuse_address_only(sock: trio.socket.SocketType) -> None:
    """Let a restarted hub have its port back at once, unless the port is in use."""
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)


async def read_exactly(reader: Reader, n: int, retry_count: int = 0) -> bytes:
    """Read exactly n bytes, in as many reads as it takes; the end of the stream is an error."""
    chunk = await reader.read(n)
    if len(chunk) == n:
        return chunk
    buffer = bytearray(chunk)
    while len(buffer) < n and chunk:
        chunk = await reader.read(n - len(buffer))
        buffer += chunk
    if len(buffer) < n:
        raise IncompleteReadError(
            f"Connection closed: expected {n} bytes but received {len(buffer)}",
            expected_bytes=n,
            received_bytes=len(buffer),
        )
    return bytes(buffer)


async def buffered_read(self: TrioTCPStream, n: int | None = None) -> bytes:
    """Serve small reads from a buffer; only an empty buffer goes to the socket."""
    buffer: bytearray = self._read_buffer  # type: ignore[attr-defined]
    if not buffer:
        async with self.read_lock:
            try:
                buffer += await self.stream.receive_some(READ_BUFFER_BYTES)
            except trio.BrokenResourceError as error:
                raise ConnectionClosedError(
                    f"TCP connection reset by remote peer: {error}", transport="tcp"
                ) from error
            except trio.ClosedResourceError:
                return b""
        TRAFFIC.connections_bytes += len(buffer)
    if n is None or n >= len(buffer):
        taken = bytes(buffer)
        buffer.clear()
    else:
        taken = bytes(memoryview(buffer)[:n])
        del buffer[:n]
    return taken


async def eager_write(self: TrioTCPStream, data: bytes) -> None:
    """Write at once what the socket takes, and wait only for the rest."""
    TRAFFIC.connections_bytes += len(data)
    async with self.write_lock:
        try:
            sent = os.write(self.stream.socket.fileno(), data)
        except OSError:
            # A full socket, or one that is closed or broken: the slow way tells which.
            sent = 0
        if sent == len(data):
            return
        try:
            await self.stream.send_all(memoryview(data)[sent:])
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError(
                f"TCP connection reset by remote peer: {error}", transport="tcp"
            ) from error
        except trio.ClosedResourceError:
            return


async def select_one_of(
    self: MultiselectClient,
    protocols: Sequence[TProtocol],
    communicator: MultiselectCommunicator,
    negotiate_timeout: int = DEFAULT_NEGOTIATE_TIMEOUT,
) -> TProtocol:
    """Ask for the first protocol along with the greeting, and for the others if it is unknown."""
    with trio.move_on_after(negotiate_timeout):
        try:
            await communicator.read_writer.write(
                encode_delim(MULTISELECT_PROTOCOL_ID.encode()) + encode_delim(protocols[0].encode())
            )
            greeting = await communicator.read()
            answer = await communicator.read()
        except (MultiselectCommunicatorError, IOException) as error:
            raise MultiselectClientError(f"Asking for {protocols[0]} failed: {error}") from error
        if greeting != MULTISELECT_PROTOCOL_ID:
            raise MultiselectClientError(f"{greeting!r} is no greeting of multistream")
        if answer == protocols[0]:
            return protocols[0]
        for protocol in protocols[1:] if answer == PROTOCOL_NOT_FOUND_MSG else ():
            try:
                return await self.try_select(communicator, protocol)
            except ProtocolNotSupportedError:
                continue
        raise MultiselectClientError(f"protocols not supported: {protocols}; answer {answer!r}")
    raise MultiselectClientError(f"no answer to {protocols} within {negotiate_timeout} s")


def tcp_stream(muxed: Any) -> TrioTCPStream:
    """The TCP stream at the bottom of a yamux connection over Noise."""
    stream = muxed.secured_conn.conn.read_writer.read_write_closer.stream
    assert isinstance(stream, TrioTCPStream)
    return stream


async def handle_inbound_connection(
    self: Swarm, read_write_closer: Any, maddr: Any, failure_event: object
) -> None:
    """Admit, upgrade and hold an inbound TCP connection until it closes."""
    remote = self._build_remote_multiaddr(read_write_closer)
    if remote is not None and not await self.connection_gate.is_allowed(remote):
        await read_write_closer.close()
        return
    raw = RawConnection(read_write_closer, False)
    try:
        muxed = await self.upgrade_inbound_raw_conn(raw, maddr)
        await muxed.event_closed.wait()  # type: ignore[attr-defined]
    finally:
        with trio.CancelScope(shield=True):
            await raw.close()


def _no_parent(_self: TrioManager, _task: trio.lowlevel.Task) -> None:
    """Have each task end by itself or with the service, which is all that tasks here need."""


_original_tcp_init = TrioTCPStream.__init__
_original_net_stream_init = NetStream.__init__


def _tcp_stream_init(self: TrioTCPStream, stream: trio.SocketStream) -> None:
    _original_tcp_init(self, stream)
    # Accepted and dialled sockets both come by here.
    keep_alive(stream.socket)
    self.read_lock = EagerLock()  # type: ignore[assignment]
    self.write_lock = EagerLock()  # type: ignore[assignment]
    self._read_buffer = bytearray()  # type: ignore[attr-defined]


def _net_stream_init(self: NetStream, *args: Any, **kwargs: Any) -> None:
    _original_net_stream_init(self, *args, **kwargs)
    self._state_lock = EagerLock()  # type: ignore[assignment]
