"""What the state machine remembers of the connected nodes: what each holds and how fast it is.

It is long because all of it is one node's record: its load, its speeds, its faults, and the sums of
these over the fleet, which have to change together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from swarm_hub.components.scheduler.entries import AssignmentEntry
from swarm_hub.components.scheduler.votes import is_trusted
from swarm_hub.models.features import BASELINE
from swarm_hub.models.node import ProgramSpeed, Quarantine, Telemetry
from swarm_hub.util.back_off import back_off_s

# What is queued beyond a node's slots: this much work by measured time, so that small shards keep
# the node busy between messages and a slow node holds little that others could do.
_AHEAD_S: Final = 0.25
_AHEAD_PER_SLOT_MAX: Final = 256
_AHEAD_UNMEASURED: Final = 1
# The smoothing factor of the moving averages (facts: 0.5 was the best of those tried).
_EWMA_ALPHA: Final = 0.5
# For this many programs, the last ones used, a node's speed is remembered, and for as many its
# faults.
PROGRAMS_MAX: Final = 16
# A node on which a program fails this often in a row, while it works elsewhere, gets no more of it
# for a while; each further time that lasts twice as long.
_FAULTS_MAX: Final = 3
_QUARANTINE_S: Final = 60.0
_QUARANTINE_MAX_S: Final = 3600.0
# A node whose results are contradicted wastes the work of the others too.
_LYING_QUARANTINE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The only jobs of which a node takes work, and why."""

    job_ids: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class NodeChange:
    """Event: a node connected, or the newest facts about it; `refuses` says why it takes no work.

    `owner` names whoever votes with it (its own key if nothing else is known), `agreements` how
    many of its latest results in a row others confirmed, `contradictions` how many in total they
    contradicted, `memory_bytes` the most memory it gives a module, `rtt_s` the round trip to it in
    seconds, `features` the features of calls that it says it knows, `limits` the jobs it finishes
    if it takes no others, `quarantines` what it was kept from when it was last here, `wall_time_s`
    the longest that it lets a shard run, `speeds` what was measured when it was last here.
    """

    node_id: str
    slots: int
    telemetry: Telemetry
    refuses: str | None = None
    owner: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()
    agreements: int = 0
    contradictions: int = 0
    memory_bytes: int | None = None
    rtt_s: float | None = None
    features: frozenset[str] = BASELINE
    limits: JobLimits | None = None
    quarantines: tuple[Quarantine, ...] = ()
    wall_time_s: float | None = None
    speeds: tuple[ProgramSpeed, ...] = ()


@dataclass(slots=True)
class Faults:
    """How often in a row a program failed on one node, and until when it is kept from that node."""

    in_a_row: int = 0
    quarantines: int = 0
    until: float = 0.0
    text: str = ""
    # Whether failures are why, and not wrong results.
    failed: bool = False


# Shared by all nodes that have nothing: an empty dict of its own would cost each of them 64 bytes.
_NO_SPEEDS: Final[Mapping[str, ProgramSpeed]] = MappingProxyType({})
_NO_FAULTS: Final[Mapping[str, Faults]] = MappingProxyType({})


@dataclass(slots=True)
class NodeEntry:
    """A connected node."""

    change: NodeChange
    # What it is to run, in the order in which it was given out, and for how long altogether.
    load: list[AssignmentEntry] = field(default_factory=list)
    load_s: float = 0.0
    # What gave way: it runs only while nothing else does, and holds no slot.
    background: tuple[AssignmentEntry, ...] = ()
    # By program; the one measured last is at the end.
    speeds: Mapping[str, ProgramSpeed] = field(default_factory=lambda: _NO_SPEEDS)
    last_result_at: float = 0.0
    n_results: int = 0
    # By program; only programs that failed here.
    faults: Mapping[str, Faults] = field(default_factory=lambda: _NO_FAULTS)
    paused_until: float = 0.0
    # Features whose lack made it give work back, whatever it said before.
    lacks: frozenset[str] = frozenset()
    # How many of its latest results in a row others confirmed.
    agreements: int = 0
    contradictions: int = 0

    @property
    def node_id(self) -> str:
        """Its peer id."""
        return self.change.node_id

    @property
    def owner(self) -> str:
        """Who votes with it: at most once on a shard."""
        return self.change.owner or self.change.node_id

    def has_room(self, now: float, *, alone: bool) -> bool:
        """Whether the node may hold more shards now; `alone` if there is only one job."""
        if self.change.refuses or now < self.paused_until:
            return False
        slots, n_held = self.change.slots, len(self.load)
        if n_held < slots:
            return True
        if self.load_s < _AHEAD_S * slots:
            # A shard that is itself long may be queued too, behind a moment's work.
            return n_held < (1 + _AHEAD_PER_SLOT_MAX) * slots
        if not alone or n_held >= (1 + _AHEAD_UNMEASURED) * slots:
            return False
        # Of a module that was not measured here, and still is not, one more a slot.
        last = self.load[-1]
        is_new = self.last_result_at < last.begun_at or not self.speeds
        return last.run_s is None and is_new

    def room(self, program: str, now: float, *, alone: bool) -> int:
        """Return how many more shards of a program the node may hold now."""
        if not self.has_room(now, alone=alone):
            return 0
        slots, n_held = self.change.slots, len(self.load)
        free = max(0, slots - n_held)
        spare_s = _AHEAD_S * slots - self.load_s
        if (speed := self.speeds.get(program)) is None:
            # Not behind what may take long, unless that is its own job's.
            ahead = (1 + _AHEAD_UNMEASURED) * slots - n_held
            return max(ahead if alone else free, int(spare_s > 0))
        if spare_s <= 0:
            return free
        most = (1 + _AHEAD_PER_SLOT_MAX) * slots - n_held
        ahead = int(min(spare_s / max(speed.shard_s, 1e-6), most))
        return max(ahead, 1) if not free else max(ahead, free)

    def rate(self, program: str) -> float | None:
        """Return the items of a program a second on one slot; None if unmeasured."""
        speed = self.speeds.get(program)
        return None if speed is None else speed.rate

    def run_s(self, program: str, n_items: int) -> float | None:
        """Return how long a shard should run here, in seconds; None if unmeasured."""
        speed = self.speeds.get(program)
        return None if speed is None else n_items / speed.rate

    def wait_s(self) -> float:
        """Return when a new shard should begin, in seconds from now."""
        return self.load_s / self.change.slots

    def place(self, assignment: AssignmentEntry, now: float) -> None:
        """Take an assignment into the load."""
        if len(self.load) < self.change.slots:
            assignment.begun_at = now
        self.load.append(assignment)
        self.load_s += assignment.load_s

    def unplace(self, assignment: AssignmentEntry, now: float) -> None:
        """Take an assignment off the load, or off what gave way."""
        if assignment.is_background:
            self._forget_background(assignment)
            return
        load, slots = self.load, self.change.slots
        at = load.index(assignment)
        del load[at]
        if at < slots <= len(load):
            # The next one has its turn.
            load[slots - 1].begun_at = now
        # Rounding errors must not add up.
        self.load_s = max(0.0, self.load_s - assignment.load_s) if load else 0.0

    def drop(self, assignment: AssignmentEntry) -> None:
        """Take an assignment off wherever it is, if it is here."""
        self._forget_background(assignment)
        self.load[:] = [each for each in self.load if each is not assignment]
        self.load_s = sum(each.load_s for each in self.load)

    def _forget_background(self, assignment: AssignmentEntry) -> None:
        self.background = tuple(each for each in self.background if each is not assignment)

    def held(self) -> list[AssignmentEntry]:
        """Return everything that the node has, also what gave way."""
        return [*self.load, *self.background]

    def running(self) -> list[AssignmentEntry]:
        """Return what occupies the slots, as far as the gateway knows."""
        return self.load[: self.change.slots]

    def lacking(self, needs: frozenset[str]) -> frozenset[str]:
        """Return those of these features that the node does not know."""
        return (needs - self.change.features) | (needs & self.lacks)

    def quarantined(self, program: str, now: float) -> Faults | None:
        """Return why a program is kept from the node, None when it is not."""
        faults = self.faults.get(program)
        return faults if faults is not None and now < faults.until else None

    def quarantines(self, now: float) -> list[Quarantine]:
        """Return what is kept from the node."""
        return [
            Quarantine(program, faults.until, faults.quarantines, faults.text)
            for program, faults in self.faults.items()
            if now < faults.until
        ]


@dataclass(slots=True)
class Speed:
    """What all nodes that take work achieve together on one program: items/s over `slots` slots."""

    rate: float = 0.0
    slots: int = 0


class Nodes:
    """The connected nodes, and which of them may have room."""

    def __init__(self) -> None:
        self.by_id: dict[str, NodeEntry] = {}
        # Contains every node with room; one without is removed when it is next looked at.
        self.roomy: dict[str, NodeEntry] = {}
        self.slots = 0
        # Those with anything that gave way; one without is removed when it is next looked at.
        self.suspending: dict[str, NodeEntry] = {}
        # Whether there is only one job, so that nobody waits behind what is queued.
        self.alone = True
        # Whether any node was ever contradicted.
        self.wary = False
        self._speeds: dict[str, Speed] = {}

    def change(self, change: NodeChange, now: float) -> tuple[NodeEntry, bool]:
        """Take a new or changed node; returns it and whether it is new."""
        node = self.by_id.get(change.node_id)
        is_new = node is None
        if node is None:
            node = NodeEntry(
                change, agreements=change.agreements, contradictions=change.contradictions
            )
            for each in change.quarantines:
                faults = _faults(node, each.program)
                faults.until, faults.quarantines = each.until, each.count
                faults.text = each.reason
            for known in change.speeds[-PROGRAMS_MAX:]:
                # Counted below with its slots.
                node.speeds = {**node.speeds, known.program: known}
            self.by_id[change.node_id] = node
            self.wary |= change.contradictions > 0
        else:
            self._count(node, -1)
            for begun in node.load[node.change.slots : change.slots]:
                # It has more slots now.
                begun.begun_at = now
            node.change = change
        self._count(node, 1)
        self.freed(node)
        return node, is_new

    def restand(self, node_id: str, agreements: int, contradictions: int) -> None:
        """Replace what was counted here for a node by what is known elsewhere."""
        self.wary |= contradictions > 0
        if (node := self.by_id.get(node_id)) is not None:
            node.agreements, node.contradictions = agreements, contradictions

    def trusts(self, node: NodeEntry) -> bool:
        """Whether a node's results need no confirmation, apart from spot checks."""
        return is_trusted(node.agreements, node.contradictions, wary=self.wary)

    def lose(self, node_id: str) -> NodeEntry | None:
        """Forget a node and return it."""
        node = self.by_id.pop(node_id, None)
        if node is not None:
            self._count(node, -1)
            self.roomy.pop(node_id, None)
            self.suspending.pop(node_id, None)
        return node

    def freed(self, node: NodeEntry) -> None:
        """Note that a node may have room again."""
        # An alarm may ring for a node that disconnected, or that came back as another entry.
        if not node.change.refuses and self.by_id.get(node.node_id) is node:
            self.roomy[node.node_id] = node

    def are_alone(self, alone: bool) -> None:
        """Note whether there is only one job."""
        if alone and not self.alone:
            for node in self.by_id.values():
                self.freed(node)
        self.alone = alone

    def room(self, node: NodeEntry, program: str, now: float) -> int:
        """Return how many more shards of a program a node may hold now."""
        return node.room(program, now, alone=self.alone)

    def with_room(self, now: float) -> list[NodeEntry]:
        """Return the nodes that may hold more shards now, of some programs at least."""
        found = [node for node in self.roomy.values() if node.has_room(now, alone=self.alone)]
        if len(found) < len(self.roomy):
            self.roomy = {node.node_id: node for node in found}
        return found

    def measured(
        self, node: NodeEntry, program: str, n_items: int, wall_s: float, now: float
    ) -> None:
        """Add the time of a finished shard to the moving averages."""
        node.last_result_at = now
        node.n_results += 1
        rate = n_items / max(wall_s, 1e-6)
        old = node.speeds.get(program)
        if old is None:
            speed = ProgramSpeed(program, rate, wall_s)
        else:
            speed = ProgramSpeed(program, _ewma(old.rate, rate), _ewma(old.shard_s, wall_s))
        self._note_speed(node, speed)

    def _note_speed(self, node: NodeEntry, speed: ProgramSpeed) -> None:
        """Make a speed the newest of a node; of too many programs the oldest is forgotten."""
        program = speed.program
        self._count(node, -1, program)
        others = {each: node.speeds[each] for each in node.speeds if each != program}
        if len(others) >= PROGRAMS_MAX:
            oldest = next(iter(others))
            self._count(node, -1, oldest)
            del others[oldest]
        node.speeds = {**others, program: speed}
        self._count(node, 1, program)

    def speed(self, program: str) -> Speed:
        """Return the measured speed of all nodes that take work; for reading only."""
        return self._speeds.get(program, _NO_SPEED)

    def failed(self, node: NodeEntry, program: str, text: str, now: float) -> float | None:
        """Count a failure; returns until when the node is kept from the program, if that is new.

        Only counts where another node has run it and may still: otherwise the program is to blame.
        """
        faults = _faults(node, program)
        faults.in_a_row += 1
        faults.text, faults.failed = text, True
        if faults.in_a_row < _FAULTS_MAX or node.quarantined(program, now) is not None:
            return None
        if not any(
            each is not node and program in each.speeds and each.quarantined(program, now) is None
            for each in self.by_id.values()
            if not each.change.refuses
        ):
            return None
        return _quarantine(faults, _QUARANTINE_S, now)

    def forgive(self, node: NodeEntry, program: str, now: float) -> None:
        """Take back a failure, since another node failed on the same shard too."""
        if (faults := node.faults.get(program)) is None:
            return
        if faults.failed and now < faults.until:
            faults.until = now
            faults.quarantines -= 1
            faults.in_a_row = _FAULTS_MAX
            self.freed(node)
        faults.in_a_row = max(0, faults.in_a_row - 1)

    def agreed(self, node: NodeEntry, program: str) -> None:
        """Count a result that others confirm; only a trusted node's failures are forgotten."""
        node.agreements += 1
        if self.trusts(node):
            self.succeeded(node, program)

    def contradicted(self, node: NodeEntry, program: str, now: float) -> float | None:
        """Count a result that others contradict; returns until when it is kept from the program."""
        node.agreements = 0
        node.contradictions += 1
        self.wary = True
        faults = _faults(node, program)
        faults.in_a_row += 1
        faults.text, faults.failed = "other nodes contradicted its results", False
        if faults.in_a_row < _FAULTS_MAX:
            return None
        return _quarantine(faults, _LYING_QUARANTINE_S, now)

    def refuted(self, node: NodeEntry, program: str, now: float) -> float:
        """Keep a node from a program whose known answer it contradicted; returns until when.

        Known answers are one job owner's word, so the node's trust and contradictions stay as they
        are.
        """
        faults = _faults(node, program)
        faults.text, faults.failed = "it contradicted a known answer", False
        return _quarantine(faults, _LYING_QUARANTINE_S, now)

    def succeeded(self, node: NodeEntry, program: str) -> None:
        """Note a result that counts: it breaks a row of failures."""
        if (faults := node.faults.get(program)) is not None:
            faults.in_a_row = 0

    def _count(self, node: NodeEntry, sign: int, program: str | None = None) -> None:
        """Add or subtract a node's speed for one program, or for all of them and its slots."""
        if node.change.refuses:
            return
        slots = node.change.slots
        if program is None:
            self.slots += sign * slots
            for each in node.speeds:
                self._count(node, sign, each)
        elif (measured := node.speeds.get(program)) is not None:
            speed = self._speeds.setdefault(program, Speed())
            speed.rate += sign * measured.rate * slots
            speed.slots += sign * slots
            if speed.slots <= 0:
                # So that rounding errors do not add up, and nothing is kept for old programs.
                del self._speeds[program]


_NO_SPEED: Final = Speed()


def _faults(node: NodeEntry, program: str) -> Faults:
    if (faults := node.faults.get(program)) is None:
        faults = Faults()
        last = list(node.faults.items())[1 - PROGRAMS_MAX :]
        node.faults = {**dict(last), program: faults}
    return faults


def _quarantine(faults: Faults, base_s: float, now: float) -> float:
    faults.until = now + back_off_s(base_s, faults.quarantines, _QUARANTINE_MAX_S)
    faults.quarantines += 1
    faults.in_a_row = 0
    return faults.until


def _ewma(average: float, value: float) -> float:
    return average + _EWMA_ALPHA * (value - average)
