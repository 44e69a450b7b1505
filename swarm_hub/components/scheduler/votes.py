"""When results count: at once, or once nodes of different owners agree on the hash; pure.

The rule is BOINC's (Anderson, "BOINC: A Platform for Volunteer Computing", 2019, section 4): a
quorum of equal results, more copies until there is one, and with adaptive replication a node whose
latest results were all confirmed works alone, apart from spot checks.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

# Confirmed results in a row after which a node works alone; after each result that others
# contradicted, twice as many are needed. Of the nodes that lie every tenth time, one in three gets
# through the 10 that BOINC asks for and one in 24 through 30, which every node has to give once any
# node was contradicted.
_TRUSTED_AFTER: Final = 10
_TRUSTED_AFTER_WARY: Final = 30
_DOUBLINGS_MAX: Final = 16
# The share of such a node's shards that is checked nevertheless.
_SPOT_CHECKS: Final = 0.05
# A shard without a quorum is given up after this many results more than its copies.
_VOTES_BEYOND: Final = 10
# If this many owners all contradict a known answer, it is in doubt.
_REFUTED_BY: Final = 3
# Shards of an adaptive job that are checked are done by two.
_ADAPTIVE_COPIES: Final = 2


@dataclass(frozen=True, slots=True)
class Vote:
    """A result: who gave it, and its hash. A failure is not a vote, so errors never agree."""

    assignment_id: str
    node_id: str
    owner: str
    sha: str
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Redundancy:
    """How many results a shard needs: `copies` to begin with, more than half of them equal.

    An `adaptive` one needs a single result of a trusted node, unless its shard is spot-checked.
    `secret` keeps nodes from knowing which shards are.
    """

    copies: int = 1
    adaptive: bool = False
    secret: bytes = b""

    @property
    def quorum(self) -> int:
        """How many equal results make a quorum."""
        return self.copies // 2 + 1

    def is_checked(self, job_id: str, index: int) -> bool:
        """Whether this shard is done by two even where a trusted node does it."""
        seed = f"{job_id}.{index}".encode()
        digest = hashlib.blake2b(seed, digest_size=8, key=self.secret[:64]).digest()
        return int.from_bytes(digest) < _SPOT_CHECKS * 2**64


SINGLE: Final = Redundancy()


def is_trusted(agreements: int, contradictions: int, *, wary: bool) -> bool:
    """Whether a node works alone, by its confirmed results in a row and its contradicted ones.

    `wary` says whether any node of the fleet was contradicted: where one is wrong, others may be.
    """
    after = _TRUSTED_AFTER_WARY if wary else _TRUSTED_AFTER
    return agreements >= after << min(contradictions, _DOUBLINGS_MAX)


def adaptive(secret: bytes) -> Redundancy:
    """Return the redundancy that nodes escape by earning trust."""
    return Redundancy(_ADAPTIVE_COPIES, adaptive=True, secret=secret)


def winner(
    redundancy: Redundancy, votes: Sequence[Vote], *, checked: bool, known: str | None = None
) -> str | None:
    """Return the hash that counts, None while there is no quorum; one vote per owner.

    If the answer is `known`, a single result equal to it is enough, and no other counts.
    """
    if known is not None:
        return known if any(vote.sha == known for vote in votes) else None
    if redundancy.copies == 1:
        return votes[0].sha if votes else None
    if redundancy.adaptive and len(votes) == 1 and votes[0].trusted and not checked:
        return votes[0].sha
    owners = _owners_by_sha(votes)
    return next((sha for sha in owners if len(owners[sha]) >= redundancy.quorum), None)


def is_undecidable(
    redundancy: Redundancy, votes: Sequence[Vote], connected: Callable[[], Collection[str]]
) -> bool:
    """Whether this many results without a quorum fail the job; `connected` gives the owners online.

    If everybody has voted, 2n + 1 results do; otherwise n + 10, a number that with one lying node
    in five is reached by one shard in a million.
    """
    if len(votes) >= redundancy.copies + _VOTES_BEYOND:
        return True
    if len(votes) < 2 * redundancy.copies + 1:
        return False
    return {vote.owner for vote in votes}.issuperset(connected())


def is_refuted(votes: Sequence[Vote], connected: Collection[str]) -> bool:
    """Whether enough owners contradict a known answer that it may itself be wrong."""
    owners = {vote.owner for vote in votes}
    return len(owners) >= _REFUTED_BY or owners.issuperset(connected)


def lacking(
    redundancy: Redundancy,
    votes: Sequence[Vote],
    open_trusted: Iterable[bool],
    *,
    checked: bool,
    known: str | None = None,
) -> int:
    """Return how many more attempts a shard needs; `open_trusted` has one entry per attempt."""
    out = list(open_trusted)
    if redundancy.copies == 1 or known is not None:
        return int(not out)
    if redundancy.adaptive and not checked and not votes and any(out):
        return 0
    best = max((len(each) for each in _owners_by_sha(votes).values()), default=0)
    n_voters = len({vote.owner for vote in votes})
    wanted = max(redundancy.copies - n_voters, redundancy.quorum - best)
    return max(0, wanted - len(out))


def _owners_by_sha(votes: Sequence[Vote]) -> dict[str, set[str]]:
    owners: dict[str, set[str]] = defaultdict(set)
    for vote in votes:
        owners[vote.sha].add(vote.owner)
    return owners
