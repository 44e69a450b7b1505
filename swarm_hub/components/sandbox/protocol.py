"""The hub's end of one child: requests in order, answers in order, a deadline for each.

Answers come by two sockets. To be woken for each of many short shards costs both sides more than
the shards do, so the child gives most of those answers quietly, by a socket that nobody waits at,
and the hub looks there whenever it asks which shard the child is on.

It is long because all of it acts on one queue: what was sent to the child and not yet answered.
"""

import asyncio
import logging
import os
import signal
from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from .call import CHILD_DIED
from .child.wire import (
    QUIET_BYTES_MAX,
    Decoder,
    Frame,
    WireError,
    encode_head,
    encode_header,
)
from .child.workspace import remove_tree
from .launch import Launched, explain_death, last_words, reap
from .request import STOPPED, Answer, Request, parse_answer, too_late

_LOGGER = logging.getLogger(__name__)

# The child forgets the least recently used module beyond this; see child/engine.py.
LOADED_MAX = 16
# A shard that runs this long with others behind it is holding them up.
_HELD_UP_S = 0.005
_MEAN_WEIGHT = 0.3
_SKIP_S = 0.1
_CLOSED_S = 0.2
_JOIN_BYTES_MAX = 64 * 1024
# A large body goes out in pieces, as the socket takes them: handing 50 MB to the transport at
# once copied all of it and held up the loop for 0.1 s.
_PIECE_BYTES = 256 * 1024
# Interpreter and wasmtime start in 0.2 s; a phone under load may need far longer.
_START_S = 30.0
# Its first answer says what the kernel enforces on it.
_HELLO_BYTES_MAX = 4096


class ChildLostError(Exception):
    """The child was lost before it could begin a request, which may run elsewhere."""


@dataclass(slots=True, eq=False)
class _Sent:
    number: int
    request: Request
    withdrawn: bool = False

    @property
    def time_s(self) -> float:
        """How long it may take from the moment it is first in the child."""
        # A withdrawn shard is skipped at once, unless the child had just begun it.
        return _SKIP_S if self.withdrawn else self.request.time_s


class Owner(Protocol):
    """What a child tells the pool."""

    def child_answered(self, child: "ChildLink") -> None:
        """Some answers arrived; the child may have room."""
        ...

    def child_begins(self, tag: str) -> None:
        """It is on the shard of that tag from now on."""
        ...

    def child_held_up(self, child: "ChildLink") -> None:
        """Its first shard takes long while others wait behind it."""
        ...

    def child_lost(self, child: "ChildLink", waiting: list[Request]) -> None:
        """It is dead or dying; `waiting` were not begun."""
        ...


@dataclass(slots=True, eq=False)
class ChildLink(asyncio.BufferedProtocol):
    """A child process and the socket to it; implements `placement.Lane`."""

    owner: Owner
    launched: Launched
    loop: asyncio.AbstractEventLoop
    # Started for an inspection; stopped when it has nothing to do for a while.
    spare: bool = False
    # Whose shards it runs, chosen with the first of them: it never runs another's.
    scope: str | None = None
    # Whether it was given any shard: what it says of other modules counts no more.
    ran: bool = False
    # Being loaded with a module for a shard; nothing else may be placed here.
    reserved: bool = False
    ready: bool = False
    # Whether it was ever ready; one that never was is only restarted after the back-off.
    started: bool = False
    lost: bool = False
    held_up: bool = False
    # The shard it is on gives way to others.
    background: bool = False
    # Since when its process is stopped; None while it runs.
    suspended_since_s: float | None = None
    # The same for a pause of the duty cycle, in which it keeps its slot.
    frozen_since_s: float | None = None
    mean_s: float | None = None
    idle_since_s: float = 0.0
    loaded: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _sent: deque[_Sent] = field(default_factory=deque)
    _outbox: deque[bytes | memoryview] = field(default_factory=deque)
    _full: bool = False
    _flushes: bool = False
    _decoder: Decoder = field(default_factory=Decoder)
    _quiet_decoder: Decoder = field(default_factory=Decoder)
    _transport: asyncio.Transport | None = None
    _number: int = 0
    _head_since_s: float = 0.0
    _timer: asyncio.TimerHandle | None = None
    _timer_at_s: float = 0.0
    # How long the shard it is on was suspended before.
    _suspended_s: float = 0.0
    # The task that removes its directory once it ended.
    _removal: asyncio.Future[None] | None = None
    # Whether the loop has the socket, which it closes, and whether its transport can be ended.
    _given: bool = False
    _connected: bool = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self.launched.process.pid

    @property
    def idle(self) -> bool:
        """Whether it is ready, has nothing to do and is not reserved."""
        return self.ready and not self._sent and not self.reserved and not self.lost

    @property
    def takes_runs(self) -> bool:
        """Whether it occupies a slot: it runs shards, not suspended, or is reserved for one."""
        return self.reserved or (
            bool(self._sent)
            and self._sent[-1].request.operation == "run"
            and self.suspended_since_s is None
        )

    @property
    def suspended(self) -> bool:
        """Whether its process is stopped until others have run."""
        return self.suspended_since_s is not None

    @property
    def queued(self) -> int:
        """The requests it has not answered yet."""
        return len(self._sent)

    @property
    def running(self) -> str:
        """The tag of the shard it has begun, empty when it runs none."""
        return self._sent[0].request.tag if self._sent and not self._sent[0].withdrawn else ""

    @property
    def pipelining(self) -> bool:
        """Whether it may get a shard behind another one, which does not hold that up."""
        return not (self.reserved or self.held_up or self.background or self.lost)

    def has(self, key: str) -> bool:
        """Whether a module is loaded in it."""
        return key in self.loaded

    def note_loaded(self, key: str) -> None:
        """Mirror the child's own list of loaded modules."""
        self.loaded[key] = None
        self.loaded.move_to_end(key)
        if len(self.loaded) > LOADED_MAX:
            self.loaded.popitem(last=False)

    async def connect(self) -> Answer:
        """Take over the socket and wait until the child has its engine, or has died."""
        if self.lost:
            return Answer(STOPPED, "The sandbox process was ended before it was ready")
        # The child's first frame answers this request, which is never sent.
        hello = Request("start", b"", b"", _HELLO_BYTES_MAX, _START_S, self.loop.create_future())
        self._push(hello)
        self._given = True
        await self.loop.create_unix_connection(lambda: self, sock=self.launched.link)
        self._connected = True
        if self.lost:
            self._abort()
        return await hello.future

    async def ask(self, request: Request) -> Answer:
        """Send one request and wait for its answer; raises ChildLostError if it can't begin."""
        if self.lost:
            raise ChildLostError
        self.post(request)
        self.flush()
        return await request.future

    def post(self, request: Request) -> None:
        """Queue a request; `flush` sends what was queued in one write."""
        self._number += 1
        request.child = self
        if request.module is not None:
            self.ran = True
            self.note_loaded(request.module.key)
        head = encode_head(self._number, request.header, len(request.body))
        if len(request.body) <= _JOIN_BYTES_MAX:
            self._outbox.append(head + request.body)
        else:
            self._outbox.append(head)
            body = memoryview(request.body)
            for at in range(0, len(body), _PIECE_BYTES):
                self._outbox.append(body[at : at + _PIECE_BYTES])
        self._push(request)

    def flush(self) -> None:
        """Write the queued requests, as far as the socket takes them now."""
        if self._transport is None:
            return
        if not self._full and sum(map(len, self._outbox)) <= _JOIN_BYTES_MAX:
            joined = b"".join(self._outbox)
            self._outbox.clear()
            if joined:
                self._transport.write(joined)
        while self._outbox and not self._full:
            self._transport.write(self._outbox.popleft())

    def flush_soon(self) -> None:
        """Write what is queued in this turn of the loop in one piece, unless the child waits."""
        if len(self._sent) == 1:
            self.flush()
        elif not self._flushes:
            self._flushes = True
            self.loop.call_soon(self._flush_queued)

    def catch_up(self) -> list[str]:
        """Settle what it has answered without waking anybody; returns the tags of those shards."""
        before = list(self._sent)
        try:
            self._take_quiet()
        except WireError as err:
            self.loop.call_soon(self._break_off, err)
        settled = before[: len(before) - len(self._sent)]
        return [sent.request.tag for sent in settled if not sent.withdrawn]

    def withdraw(self, request: Request) -> None:
        """Give up a request: the child is killed if it has begun it, else told to skip it."""
        self.catch_up()
        if not self._sent or self.lost:
            return
        if self._sent[0].request is request:
            self.kill(Answer(CHILD_DIED, "The shard was withdrawn while it ran"))
            return
        self._skip([sent for sent in self._sent if sent.request is request])

    def withdraw_followers(self) -> list[Request]:
        """Take back the shards behind the first one, to run them elsewhere."""
        self.catch_up()
        followers = [sent for sent in list(self._sent)[1:] if not sent.withdrawn]
        self._skip(followers)
        return [sent.request for sent in followers]

    def suspend(self) -> bool:
        """Stop its process and the time of the shard it is on; False if the system forbids it."""
        self.thaw()
        self.catch_up()
        if not self.background:
            # The one that was to give way has ended meanwhile.
            return True
        try:
            self.launched.process.send_signal(signal.SIGSTOP)
        except PermissionError:
            return False
        self.suspended_since_s = self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True

    def resume(self) -> None:
        """Let its process go on where it was stopped."""
        if self.suspended_since_s is None:
            return
        self.launched.process.send_signal(signal.SIGCONT)
        suspended_s = self.loop.time() - self.suspended_since_s
        self.suspended_since_s = None
        self._suspended_s += suspended_s
        self._head_since_s += suspended_s
        self._watch()

    def freeze(self) -> bool:
        """Stop its process for a moment, until `thaw`; returns whether it was to be stopped."""
        if self.lost or self.suspended or self.frozen_since_s is not None:
            return False
        try:
            self.launched.process.send_signal(signal.SIGSTOP)
        except PermissionError:
            return False
        self.frozen_since_s = self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True

    def thaw(self) -> None:
        """Let it go on; the moment does not count as time of the shard it is on."""
        if self.frozen_since_s is None or self.lost:
            return
        self.launched.process.send_signal(signal.SIGCONT)
        now = self.loop.time()
        # A shard that came in the meantime has waited since then.
        self._head_since_s += now - max(self.frozen_since_s, self._head_since_s)
        self.frozen_since_s = None
        self._watch()

    def kill(self, verdict: Answer) -> None:
        """End the child now; its first request gets the verdict, the others go elsewhere."""
        if self.lost:
            return
        self.launched.process.kill()
        # The verdict is on the shard it was on.
        self.catch_up()
        self._abort()
        waiting = self._lose()
        if self._sent:
            _settle(self._sent.popleft(), verdict)
        self.owner.child_lost(self, waiting)

    async def bury(self) -> None:
        """Wait for the process to end, then settle the request it died on; safe to repeat."""
        status = await reap(self.launched.process)
        if self._removal is None:
            self._settle_last(status)
            self._removal = self.loop.run_in_executor(None, remove_tree, self.launched.room)
        await asyncio.shield(self._removal)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Not every loop's transports are of that class; uvloop's only have its methods.
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        """The transport has enough."""
        self._full = True

    def resume_writing(self) -> None:
        """The transport has room again."""
        self._full = False
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the decoder's buffer; a new one for each read would cost 20 µs."""
        return self._decoder.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Settle the requests that were answered, in order."""
        self._decoder.filled(nbytes)
        try:
            # What it answered quietly before this came.
            self._take_quiet()
            while self._sent:
                frame = self._decoder.take(self._sent[0].request.body_bytes_max)
                if frame is None:
                    return
                self._answered(frame)
                self._settle_quiet()
            if self._decoder.pending_bytes:
                raise WireError("an answer without a request")
        except WireError as err:
            self._break_off(err)
            return
        finally:
            if not self.lost:
                self._watch()
                self.owner.child_answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The child closed its socket: it is dead or about to be."""
        if not self.lost:
            self.catch_up()
            # A child that closes the socket without exiting is of no use either.
            self.loop.call_later(_CLOSED_S, self.launched.process.kill)
            self.owner.child_lost(self, self._lose())

    def _flush_queued(self) -> None:
        self._flushes = False
        self.flush()

    def _take_quiet(self) -> None:
        """Read and settle its quiet answers; the last of several is never a quiet one."""
        while len(self._sent) > 1 and not self.lost:
            with self._quiet_decoder.space() as space:
                try:
                    size_bytes = self.launched.quiet.recv_into(space) if space else 0
                except BlockingIOError:
                    return
                is_full = size_bytes == len(space)
            self._quiet_decoder.filled(size_bytes)
            self._settle_quiet()
            if not (size_bytes and is_full):
                return

    def _settle_quiet(self) -> None:
        """Settle the quiet answers whose turn it is; the loud ones between may not be read yet."""
        while self._sent and self._quiet_decoder.next_number == self._sent[0].number:
            most = min(self._sent[0].request.body_bytes_max, QUIET_BYTES_MAX)
            frame = self._quiet_decoder.take(most)
            if frame is None:
                return
            self._answered(frame)

    def _break_off(self, err: WireError) -> None:
        if not self.lost:
            _LOGGER.warning("Sandbox child %d broke the protocol: %s", self.pid, err)
            self.kill(Answer(CHILD_DIED, f"The sandbox process broke the protocol: {err}"))

    def _abort(self) -> None:
        # One that is ended while it is made is never closed by uvloop; `connect` sees to it.
        if self._transport is not None and self._connected:
            self._transport.abort()

    def _answered(self, frame: Frame) -> None:
        sent = self._sent[0]
        answer = parse_answer(frame, sent.number)
        self._sent.popleft()
        if self.background:
            answer = self._end_background(answer)
        self._head_since_s = self.idle_since_s = self.loop.time()
        self.held_up = False
        self._begin()
        if sent.request.operation == "run" and answer.code != "dropped":
            mean_s = answer.wall_s if self.mean_s is None else self.mean_s
            self.mean_s = mean_s + _MEAN_WEIGHT * (answer.wall_s - mean_s)
        _settle(sent, answer)

    def _end_background(self, answer: Answer) -> Answer:
        """Return the answer to a shard that gave way, without the time it was suspended."""
        # It may have been stopped just after it had answered.
        self.resume()
        # The child's clock runs on while it is stopped; what it was stopped for before it began to
        # measure is not in its figure, which can't be less than its CPU time.
        wall_s = max(answer.wall_s - self._suspended_s, answer.cpu_s)
        self.background, self._suspended_s = False, 0.0
        return replace(answer, wall_s=wall_s)

    def _push(self, request: Request) -> None:
        self._sent.append(_Sent(self._number, request))
        if len(self._sent) == 1:
            self._head_since_s = self.loop.time()
            self._begin()
        self._watch()

    def _begin(self) -> None:
        """Tell which shard the child is on now, if it is on one."""
        if tag := self.running:
            self.owner.child_begins(tag)

    def _skip(self, followers: list[_Sent]) -> None:
        for sent in followers:
            sent.withdrawn = True
            sent.request.child = None
        if followers and self._transport is not None:
            drop = {"op": "drop", "ids": [sent.number for sent in followers]}
            self._outbox.append(encode_head(0, encode_header(drop), 0))
            self.flush()

    def _watch(self) -> None:
        """Arm the timer for what is due next; a timer that is due earlier is left to fire."""
        if not self._sent or self.suspended or self.frozen_since_s is not None:
            return
        due_s = self._head_since_s + self._sent[0].time_s
        if len(self._sent) > 1 and not self.held_up:
            due_s = min(due_s, self._head_since_s + _HELD_UP_S)
        if self._timer is not None:
            if self._timer_at_s <= due_s:
                return
            self._timer.cancel()
        self._timer_at_s = due_s
        self._timer = self.loop.call_at(due_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self.catch_up()
        if self.lost or not self._sent:
            return
        first = self._sent[0]
        running_s = self.loop.time() - self._head_since_s
        if running_s >= first.time_s:
            self.kill(too_late(first.request))
            return
        if len(self._sent) > 1 and not self.held_up and running_s >= _HELD_UP_S:
            self.held_up = True
            self.owner.child_held_up(self)
        self._watch()

    def _settle_last(self, status: int) -> None:
        words = last_words(self.launched.stderr)
        os.close(self.launched.stderr)
        self.launched.quiet.close()
        if not self._given:
            self.launched.link.close()
        if self._sent:
            first = self._sent.popleft()
            operation = first.request.operation
            verdict = Answer(*explain_death(operation, status, words))
            _LOGGER.warning(
                "Sandbox child %d ended during a request to %s: %s",
                self.pid,
                operation,
                verdict.text,
            )
            _settle(first, verdict)

    def _lose(self) -> list[Request]:
        """Mark it lost, keep only the request it is on and return those it had not begun."""
        self.started = self.ready
        self.lost, self.ready = True, False
        self._outbox.clear()
        if self._timer is not None:
            self._timer.cancel()
        waiting = [sent.request for sent in list(self._sent)[1:] if not sent.withdrawn]
        while len(self._sent) > 1:
            self._sent.pop()
        return waiting


def _settle(sent: _Sent, answer: Answer) -> None:
    if not sent.withdrawn and not sent.request.future.done():
        sent.request.future.set_result(answer)
