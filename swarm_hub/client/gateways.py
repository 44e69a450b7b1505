"""Asking the gateways of a swarm: the next one where one is away, and again where all restart.

It is long because which one is asked, and how often, depends on how each ended its last call.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar

import aiohttp

from swarm_hub.client.errors import UNAUTHORIZED, ApiError, ClientError, UnreachableError
from swarm_hub.client.learning import learnt
from swarm_hub.client.reach import Reach
from swarm_hub.const import API_ROOT, STORE_AWAY

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")
Read = Callable[[aiohttp.ClientResponse], Awaitable[_T]]

_RETRY_S: Final = 0.25
# What a proxy says while the hub behind it is away.
_PROXY_AWAY: Final = (502, 503, 504)
_ASK_LATER: Final = (429, 503)
_UNAVAILABLE: Final = 503
# How long an answer is held at most, and how long a gateway may send no byte beyond that: where
# there is another one, a dead one is left within 3 s and a frozen one within 10 s.
_HOLD_S: Final = 30
_HOLD_OF_SEVERAL_S: Final = 3
_CONNECT_S: Final = 10.0
_CONNECT_OF_SEVERAL_S: Final = 2.5
_QUIET_S: Final = 120.0
_QUIET_OF_SEVERAL_S: Final = 5.0
# How long it may take to learn where the others are; whoever waits for a job waits for that first.
_LEARN_WITHIN_S: Final = 3.0
_LEARN_EVERY_S: Final = 60.0
# A large body is read, checked and stored before it is answered.
_QUIET_OF_UPLOADS_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway and the token for it; no token is needed by the socket of its device."""

    reach: Reach
    token: str | None

    @property
    def headers(self) -> dict[str, str]:
        """What each request to it carries."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


async def as_json(response: aiohttp.ClientResponse) -> Any:
    """Read an answer in JSON."""
    return await response.json()


async def as_bytes(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer as it is."""
    return await response.read()


class Gateways:
    """The gateways of one swarm; which of them is asked changes when one is away.

    Sessions belong to an event loop: each loop that it is used in has its own, and the end of a
    loop closes them.
    """

    def __init__(self, gateways: Sequence[Gateway], patience_s: float) -> None:
        self._gateways = list(gateways)
        self._patience_s = patience_s
        self._current = 0
        # By their numbers, when gateways told where the others are; and the ids of all of these.
        self._told_at: dict[int, float] = {}
        self._ids: set[str] = set()
        # Whether any has answered: only then is one that does not probably restarting.
        self._answered = False
        self._sessions: dict[
            asyncio.AbstractEventLoop, dict[int, tuple[Any, aiohttp.ClientSession]]
        ] = {}

    @property
    def hold_s(self) -> int:
        """How long a gateway is asked to hold an answer: long only if there is no other."""
        is_alone = len(self._gateways) == 1 and self._has_told(self._current)
        return _HOLD_S if is_alone else _HOLD_OF_SEVERAL_S

    @property
    def patience_s(self) -> float:
        """How long a call goes on trying where no gateway answers."""
        return self._patience_s

    @property
    def current(self) -> int:
        """The number of the gateway that is asked now."""
        return self._current

    async def close(self) -> None:
        """Close what is open in this loop."""
        for holding, _ in self._sessions.pop(asyncio.get_running_loop(), {}).values():
            await holding.aclose()

    async def learn(self) -> None:
        """Have the current gateway say where the others of its store are, now and then.

        What goes wrong with that is no matter: it is asked again at the next time.
        """
        number = self._current
        gateway = self._gateways[number]
        if self._has_told(number):
            return
        told: Any = None
        try:
            async with (
                asyncio.timeout(_LEARN_WITHIN_S),
                self.request("GET", "/gateways") as response,
            ):
                told = await response.json()
        except TimeoutError:
            self.leave(number)
            return
        except UnreachableError:
            return
        except (ClientError, aiohttp.ClientError, ValueError) as error:
            # One of an earlier version, or no gateway at all.
            _LOGGER.debug("%s tells of no other gateway: %s", gateway.reach.url, error)
        self._told_at[number] = time.monotonic()
        known = {each.reach.base for each in self._gateways}
        for reach in learnt(told, gateway.reach, known, self._ids):
            _LOGGER.debug("%s tells of a gateway at %s", gateway.reach.url, reach.url)
            self._gateways.append(Gateway(reach, gateway.token))

    def _has_told(self, number: int) -> bool:
        """Whether there is no need to ask a gateway where the others are."""
        if self._gateways[number].token is None:
            return True
        told_at = self._told_at.get(number)
        return told_at is not None and time.monotonic() - told_at < _LEARN_EVERY_S

    def trying(self, patience_s: float | None = None) -> "Trying":
        """Return what says whether one call is worth another try."""
        return Trying(self, self._patience_s if patience_s is None else patience_s)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        read: Read[Any] = as_json,
        body: Callable[[], Any] | None = None,
        repeat: bool = True,
        patience_s: float | None = None,
        **options: Any,
    ) -> Any:
        """Return the answer to a request, of whichever gateway gives one.

        `body` makes what is sent, each time anew. Without `repeat` nothing is sent twice.
        Raises UnreachableError and ApiError.
        """
        trying = self.trying(patience_s)
        while True:
            data = {} if body is None else {"data": body()}
            try:
                async with self.request(method, path, **data, **options) as response:
                    return await read(response)
            except ClientError as error:
                if not repeat and isinstance(error, UnreachableError) and error.was_sent:
                    raise
                await trying.after(error)

    def request(
        self,
        method: str,
        path: str,
        *,
        also: Sequence[int] = (),
        hold_s: float = 0,
        is_upload: bool = False,
        **options: Any,
    ) -> "Asked":
        """Return one request to the current gateway; statuses in `also` are no errors.

        The gateway may keep silent for `hold_s` and a bit.
        """
        if len(self._gateways) > 1:
            quiet_s = hold_s + (_QUIET_OF_UPLOADS_S if is_upload else _QUIET_OF_SEVERAL_S)
            options["timeout"] = aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_OF_SEVERAL_S, sock_read=quiet_s
            )
        return Asked(self, self._current, method, path, also, options)

    async def session(self, number: int) -> aiohttp.ClientSession:
        """Return the session with a gateway in this loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            for ended in [each for each in self._sessions if each.is_closed()]:
                del self._sessions[ended]
        sessions = self._sessions.setdefault(loop, {})
        if number not in sessions:
            # The loop itself ends its unfinished generators, and so closes what they hold.
            holding = _holding(self._gateways[number])
            sessions[number] = holding, await anext(holding)
        return sessions[number][1]

    async def connected(self) -> tuple[int, Gateway, aiohttp.ClientSession]:
        """Return the current gateway with its number and its session in this loop."""
        number = self._current
        return number, self._gateways[number], await self.session(number)

    def of(self, number: int) -> Gateway:
        """Return one of the gateways."""
        return self._gateways[number]

    def has_answered(self) -> None:
        """Note that a gateway is there."""
        self._answered = True

    def leave(self, number: int) -> None:
        """Ask the next one from now on, unless somebody did that already."""
        if number == self._current and len(self._gateways) > 1:
            self._current = (number + 1) % len(self._gateways)
            left, found = (self._gateways[each].reach.url for each in (number, self._current))
            _LOGGER.info("%s is away; %s is asked from now on", left, found)

    @property
    def were_there(self) -> bool:
        """Whether any has answered before."""
        return self._answered

    def all_away(self, error: ClientError) -> ClientError:
        """Return what is said when none answers; `error` is what the last one was found to be."""
        if len(self._gateways) == 1 or not isinstance(error, UnreachableError):
            return error
        urls = ", ".join(each.reach.url for each in self._gateways)
        return UnreachableError(f"no hub answers at any of {urls}; is one running (swarm-hub run)?")

    def __len__(self) -> int:
        return len(self._gateways)


class Trying:
    """How long one call goes on: once round all gateways at once, then until patience ends."""

    def __init__(self, gateways: Gateways, patience_s: float) -> None:
        self._gateways = gateways
        self._patience_s = patience_s
        self._since: float | None = None
        self._n_away = 0

    async def after(self, error: ClientError) -> None:
        """Return when another try is worth it; raises the error where none is."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        left_s = self._since + self._patience_s - now
        if isinstance(error, ApiError) and not _is_away(error):
            wait_s = max(_RETRY_S, error.retry_after_s or 0.0)
            if error.status not in _ASK_LATER or error.retry_after_s is None or wait_s > left_s:
                raise error
            await asyncio.sleep(wait_s)
            return
        if not isinstance(error, UnreachableError | ApiError):
            raise error
        self._n_away += 1
        if self._n_away < len(self._gateways):
            # Another one was not asked yet.
            return
        wait_s = _RETRY_S
        if isinstance(error, ApiError) and error.code != _BY_PROXY:
            if error.retry_after_s is None:
                # What a gateway itself says without a time to come back will not change.
                raise error
            wait_s = max(wait_s, error.retry_after_s)
        if wait_s > left_s or not self._gateways.were_there:
            raise self._gateways.all_away(error)
        await asyncio.sleep(wait_s)


# The code of an answer that is no hub's own.
_BY_PROXY: Final = "http"


def _is_away(error: ApiError) -> bool:
    """Whether a refusal means that another gateway should be asked."""
    if error.code == _BY_PROXY:
        return error.status in _PROXY_AWAY
    if error.code == STORE_AWAY:
        # Another may reach it.
        return True
    return error.status == _UNAVAILABLE and error.retry_after_s is None


class Asked:
    """A request whose failure is one of the client's errors; it is made when it is entered."""

    def __init__(
        self, gateways: Gateways, number: int, method: str, path: str, also: Sequence[int],
        options: dict[str, Any],
    ) -> None:  # fmt: skip
        self._gateways = gateways
        self._number = number
        self._method = method
        self._path = path
        self._also = also
        self._options = options
        self._request: Any = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        session = await self._gateways.session(self._number)
        reach = self._gateways.of(self._number).reach
        url = f"{reach.base}{API_ROOT}{self._path}"
        self._request = session.request(self._method, url, **self._options)
        try:
            response: aiohttp.ClientResponse = await self._request.__aenter__()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._told(error) from error
        self._gateways.has_answered()
        # A proxy may say the same, but not in JSON.
        is_meant = response.status in self._also and response.content_type == "application/json"
        if response.status < 400 or is_meant:
            return response
        try:
            raise await self._refusal(response)
        finally:
            await self._request.__aexit__(None, None, None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._request.__aexit__(kind, error, trace)
        # The hub may be killed between an answer's head and its end.
        if isinstance(error, aiohttp.ClientError):
            raise self._told(error) from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> ApiError:
        try:
            content = await response.json()
            code, message = str(content["code"]), str(content["message"])
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            code, message = _BY_PROXY, f"{response.status} {response.reason}"
        told = response.headers.get("Retry-After", "")
        wait_s = float(told) if told.isascii() and told.isdigit() and len(told) < 9 else None
        if response.status == UNAUTHORIZED:
            message = unauthorized(self._gateways.of(self._number))
        refusal = ApiError(response.status, code, message, wait_s)
        if _is_away(refusal):
            self._gateways.leave(self._number)
        return refusal

    def _told(self, error: BaseException) -> ClientError:
        self._gateways.leave(self._number)
        return told(self._gateways.of(self._number).reach.url, error)


def unauthorized(gateway: Gateway) -> str:
    """Return what is said where a gateway refuses the token, or the want of one."""
    if gateway.token:
        return (
            f"{gateway.reach.url}: this token is not known here; it may be revoked or have expired "
            "or be another hub's; make one on that hub: swarm-hub token create NAME"
        )
    return (
        f"{gateway.reach.url} wants a token, and none was given or found: give it as token=… or in "
        "SWARM_HUB_TOKEN; it is made on that hub: swarm-hub token create NAME"
    )


def told(url: str, error: BaseException) -> ClientError:
    """Return what is said of a connection that failed."""
    match error:
        case aiohttp.InvalidURL():
            return ClientError(f"{url} is not the address of a hub: {error}")
        case aiohttp.ServerFingerprintMismatch():
            return ClientError(
                f"{url}: another key answers there than that of the fingerprint: its certificate's "
                f"is sha256={error.got.hex()}; nothing was sent. Compare it with what `swarm-hub "
                "status` shows on the hub's device"
            )
        case aiohttp.ClientConnectorCertificateError():
            return ClientError(
                f"{url}: its certificate is not trusted here ({error.certificate_error}); if it is "
                "self-signed, append the fingerprint that `swarm-hub status` shows on the hub's "
                f"device: {url}#sha256=…"
            )
        case aiohttp.ContentTypeError():
            return ClientError(f"{url}: what answers there is no hub: it sends {_type_of(error)}")
    return UnreachableError(
        f"no hub answers at {url}; is it running (swarm-hub run), and is that its address?",
        was_sent=not isinstance(error, aiohttp.ClientConnectorError),
    )


def _type_of(error: aiohttp.ContentTypeError) -> str:
    return error.headers.get("Content-Type", "") if error.headers else "no media type"


async def _holding(gateway: Gateway) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """Hold a session open until this is closed."""
    with gateway.reach.connector() as connector:
        async with aiohttp.ClientSession(
            connector=connector,
            headers=gateway.headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_QUIET_S),
        ) as session:
            yield session
