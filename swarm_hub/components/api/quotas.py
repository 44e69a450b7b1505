"""How much each owner may ask of a hub: requests in a minute, uploaded bytes in an hour."""

import math
from typing import Final

from swarm_hub.exceptions import LimitReached
from swarm_hub.util.clock import Clock
from swarm_hub.util.token_bucket import TokenBucket

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0


class Quotas:
    """Counts by owner; a limit of None counts nothing."""

    def __init__(
        self, clock: Clock, requests_per_minute: int | None, upload_per_hour_bytes: int | None
    ) -> None:
        self._clock = clock
        self._requests = _Allowance(requests_per_minute, _MINUTE_S)
        self._bytes = _Allowance(upload_per_hour_bytes, _HOUR_S)

    def bound(self, requests_per_minute: int | None, upload_per_hour_bytes: int | None) -> None:
        """Count by these limits from now on; one that stays the same forgets nothing."""
        if requests_per_minute != self._requests.most:
            self._requests = _Allowance(requests_per_minute, _MINUTE_S)
        if upload_per_hour_bytes != self._bytes.most:
            self._bytes = _Allowance(upload_per_hour_bytes, _HOUR_S)

    def request(self, owner: str) -> None:
        """Count a request; raises LimitReached."""
        self._take(self._requests, owner, 1, "requests in a minute", "requests_per_owner")

    def upload(self, owner: str, n_bytes: int) -> None:
        """Count bytes of a body as they come; raises LimitReached."""
        self._take(self._bytes, owner, n_bytes, "bytes in an hour", "upload_per_owner")

    def _take(self, of: "_Allowance", owner: str, amount: int, what: str, key: str) -> None:
        if of.most is None:
            return
        wait_s = of.take(owner, amount, self._clock.monotonic())
        if wait_s > 0:
            raise LimitReached(
                "quota",
                f"{owner} has sent more than {of.most} {what} (api: {key}); go on in "
                f"{wait_s:.0f} s",
                retry_after_s=math.ceil(wait_s),
            )


class _Allowance:
    """So much in a period for each owner."""

    def __init__(self, most: int | None, period_s: float) -> None:
        self.most = most
        self._period_s = period_s
        # Owners are names of tokens: there are as many as somebody made.
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, owner: str, amount: int, now: float) -> float:
        """Take some, unless something is owed; returns for how long it is."""
        assert self.most is not None
        bucket = self._buckets.get(owner)
        if bucket is None:
            bucket = TokenBucket(self.most / self._period_s, self._period_s, now)
            self._buckets[owner] = bucket
        if (owed_s := bucket.debt_s(now)) > 0:
            return owed_s
        bucket.take(amount, now)
        return max(0.0, bucket.debt_s(now)) if amount > 1 else 0.0
