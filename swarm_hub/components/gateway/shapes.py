"""What the gateway answers clients with, by shape; times are ISO 8601 in UTC.

It is long because there is a shape for each answer; none of them does anything.
"""

from typing import Any, Literal, NotRequired, TypedDict

from swarm_hub.models.event import EventShape


class ProgressShape(TypedDict):
    """How far along a job is."""

    items: int | None
    items_done: int
    items_failed: int
    shards: int | None
    shards_done: int
    retries: int


class JobSummary(TypedDict):
    """A job in a list; `status` is Swarm Runtime's word for its `state`."""

    job_id: str
    status: str
    state: str
    reduce: str
    owner: str
    name: str | None
    labels: dict[str, str]
    module_sha: str
    progress: ProgressShape
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_s: float | None


class JobPage(TypedDict):
    """A page of jobs, newest first; `cursor` leads to the next one, None at the end.

    A page of jobs that are looked for may have few of them, or none, and not be the last.
    """

    jobs: list[JobSummary]
    cursor: str | None


class NodeShare(TypedDict):
    """What one node did for a job."""

    node_id: str
    shards: int
    attempts: int
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int | None


class RuntimeFields(TypedDict):
    """What Swarm Runtime's clients read; they know no null, and `hashes` is always empty.

    `total_sum` is 0 where results are no numbers, or too many to be added for a status.
    """

    total_sum: Any
    breakdown: list[Any]
    hashes: list[Any]
    breakdown_omitted: NotRequired[str]


class JobStatus(JobSummary, RuntimeFields):
    """A job with all that is known; `total_sum` and `breakdown` are for Swarm Runtime's clients.

    `failed_items` counts those that were left out, `problem` is the last failure of a job that is
    still tried.
    `note` says what is odd about the result of a completed job, such as that it is empty.
    `result` is there once the job is complete, if its result is small and not raw bytes;
    `result_text` if it is text; `result_sha` if the result is large.
    """

    spec: dict[str, Any]
    dataset_sha: str | None
    failures: list[Any]
    failed_items: int
    problem: str | None
    note: str | None
    waits: Any
    missing_shards: list[int]
    result_sha: NotRequired[str]
    result_bytes: NotRequired[int | None]
    nodes: NotRequired[list[NodeShare]]
    result: NotRequired[Any]
    result_text: NotRequired[str]
    links: NotRequired[dict[str, str]]


class SubmittedShape(TypedDict):
    """A job that was taken in; it is durable."""

    job_id: str
    status: str
    links: dict[str, str]


class CancelledJob(TypedDict):
    """What became of a job that was to be cancelled.

    `code` says why it is not: `job_ended`, `not_found`, `pruned`, or `busy` if the gateway it
    belongs to has not answered; then it will be cancelled.
    """

    job_id: str
    state: str | None
    cancelled: bool
    code: str | None


class CancelledJobs(TypedDict):
    """What became of jobs; `cursor` leads to those that are left of a filter, None at the end."""

    jobs: list[CancelledJob]
    cursor: str | None


class UploadShape(TypedDict):
    """How much of a blob is here: `offset` bytes, `complete` if that is all of it.

    A whole one is kept until `expires_at` at least, and as long as jobs need it.
    """

    sha256: str
    offset: int
    complete: bool
    expires_at: str | None


class PortShape(TypedDict):
    """An export or an import of a module; `type` is text such as `(i32, i32) -> i64`."""

    name: str
    kind: str
    type: str


class FittingAbi(TypedDict):
    """An abi that a module fits, and the exports that can be the entry."""

    abi: str
    entries: list[str]


class ModuleShape(TypedDict):
    """What a module exports and needs; the abis come best first, `refused` says why it can't run.

    Of a module in text form `sha256` is that of the binary one.
    """

    sha256: str
    abis: list[FittingAbi]
    exports: list[PortShape]
    imports: list[PortShape]
    memory_min_bytes: int
    memory_max_bytes: int | None
    folds: bool
    refused: str | None


class Attempt(TypedDict):
    """One try at a shard; `ended_at` is None until its end is known."""

    attempt: int
    node_id: str
    state: str
    reason: str | None
    offered_at: str
    ended_at: str | None


class ShardDetails(TypedDict):
    """A shard with every attempt; `result` is the usage of the attempt that counts."""

    index: int
    state: str
    first_item: int
    n_items: int
    attempts: list[Attempt]
    result: dict[str, Any] | None


class Shards(TypedDict):
    """A page of a job's shards; `cursor` leads to the next one, None at the end."""

    shards: list[ShardDetails]
    cursor: str | None


class ShardValue(TypedDict):
    """What a shard gave: as `text` if it is text, else in `base64`; both are null if it is large.

    Then it is to be had by itself. `node` is the name of the node that gave it, None if that is not
    known.
    """

    index: int
    first_item: int
    n_items: int
    node_id: str
    node: str | None
    size_bytes: int
    text: str | None
    base64: str | None


class ShardValues(TypedDict):
    """The results of shards, in the order in which these were asked for."""

    results: list[ShardValue]


FailureState = Literal["skipped", "failed", "cancelled", "retrying"]


class FailedOn(TypedDict):
    """A node on which a module failed; `name` is None if it is not known."""

    node_id: str
    name: str | None


class FailureShape(TypedDict):
    """Items on which the module failed and gave no result since; `message` says all of it.

    `state` is `skipped` if they are left out of the result, `failed` if the job failed before they
    were done, `cancelled` likewise, and `retrying` while they are tried. `text` is the newest
    reason, `nodes` are those that gave it, `n_failures` counts every failed attempt.
    """

    first_item: int
    n_items: int
    place: str | None
    state: FailureState
    text: str
    nodes: list[FailedOn]
    n_failures: int
    shard: int
    message: str


class FailurePage(TypedDict):
    """A page of what failed, in item order; `cursor` leads to the next one, None at the end."""

    failures: list[FailureShape]
    cursor: str | None


class ReceiptShape(TypedDict):
    """A signed envelope as it came; header, signature and body in base64."""

    sha: str
    node_id: str
    kid: str
    public_key: str
    received_at: str
    header: str
    signature: str
    body: str
    certificate: str | None


class ReceiptResult(TypedDict):
    """A result that a receipt testifies to."""

    assignment_id: str
    index: int
    first_item: int
    n_items: int
    node_id: str
    node: str | None
    result_sha: str
    input_sha: str | None
    counted: bool
    receipt: str


class SignedCall(TypedDict):
    """What nodes sign of a job's call: its module, and the hash of how that is called."""

    module_sha: str
    rest_sha: str


class Receipts(TypedDict):
    """A page of receipts and their results; `why_none` says why a job has none at all.

    `gateways` are the peer ids of those that may have heard the results.
    """

    receipts: list[ReceiptShape]
    results: list[ReceiptResult]
    cursor: str | None
    why_none: str | None
    gateways: list[str]
    call: SignedCall


class Story(TypedDict):
    """A job's transitions in order."""

    events: list[EventShape]


class TrustShape(TypedDict):
    """How honest a node has proved to be."""

    owner: str | None
    agreements: int
    contradictions: int
    trusted: bool


class Quarantine(TypedDict):
    """A module of which a node gets no work, for how long and why."""

    module: str
    for_s: float
    reason: str


class NodeSpeed(TypedDict):
    """How fast a node runs a module, on one slot, and how long a shard of it takes there."""

    module: str
    items_per_s: float
    shard_s: float


class NodeDetails(TypedDict):
    """A node that this gateway has met; `slots` is None while it is not connected.

    `shards_done` counts its results since it connected; of `speeds` the newest comes last.
    """

    node_id: str
    name: str
    state: str
    roles: list[str]
    version: str | None
    slots: int | None
    labels: dict[str, str]
    assignments: int
    refuses: str | None
    rtt_ms: float | None
    kid: str | None
    first_seen: str
    last_seen: str
    ban_reason: str | None
    ban_until: str | None
    drain_reason: str | None
    trust: TrustShape
    quarantines: list[Quarantine]
    shards_done: int
    speeds: list[NodeSpeed]
    telemetry: dict[str, Any]


class TelemetryColumn(TypedDict):
    """Numbers over time, None where one is not known; a plain number has no unit."""

    name: str
    unit: str
    values: list[float | None]


class TelemetryHistory(TypedDict):
    """What was measured in the last hour; `node_id` is None for the whole swarm.

    Each row is the newest that was known within `step_s` seconds from its `t` (since 1970) on.
    """

    node_id: str | None
    step_s: float
    t: list[float]
    columns: list[TelemetryColumn]


class Nodes(TypedDict):
    """Every node, the connected ones first."""

    nodes: list[NodeDetails]


class NodeState(TypedDict):
    """What a node is after a change."""

    node_id: str
    state: Literal["down", "approved"]


class NetworkBan(TypedDict):
    """A banned network; `until` is None for a ban without end."""

    network: str
    reason: str
    until: str | None


class NetworkBans(TypedDict):
    """The networks that are banned now."""

    networks: list[NetworkBan]


class NetworkName(TypedDict):
    """A network whose ban was lifted."""

    network: str


class GatewayDetails(TypedDict):
    """A gateway that shares this store and lives; `answers` is the one that was asked.

    `urls` are where clients find its API, `addresses` where workers dial it.
    """

    gateway_id: str
    name: str
    version: str
    urls: list[str]
    addresses: list[str]
    nodes: int
    slots: int
    idle_slots: int
    answers: bool


class GatewayList(TypedDict):
    """The gateways that share this store and live."""

    gateways: list[GatewayDetails]


class _NewInvite(TypedDict):
    id: str
    link: str
    expires_at: str
    addresses: list[str]
    owner: str | None


class NewInvite(_NewInvite, total=False):
    """An invitation with its link, which is shown only this once.

    `qr`, for who asks for it, is the link as a QR code: a text for each row, with a 1 for each
    dark square and a 0 for each light one.
    """

    qr: list[str]


class Invite(TypedDict):
    """An invitation that is kept."""

    id: str
    state: str
    created_at: str
    expires_at: str
    used_at: str | None
    used_by: str | None
    owner: str | None


class Invites(TypedDict):
    """The invitations that are kept."""

    invites: list[Invite]


class RevokedInvite(TypedDict):
    """An invitation that admits nobody any more."""

    id: str
    state: Literal["revoked"]
