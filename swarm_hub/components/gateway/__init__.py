"""The gateway: takes jobs in, gives their shards to workers, folds the results."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from swarm_hub.components.api import CLIENT_URLS
from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.gateway.dispatch.hand_over import HandOver, watch
from swarm_hub.components.gateway.dispatch.leases import LeaseKeeper
from swarm_hub.components.gateway.dispatch.node_messages import NodeMessages
from swarm_hub.components.gateway.dispatch.trust import Trust
from swarm_hub.components.gateway.job_facts import KnownJobs
from swarm_hub.components.gateway.job_feeds import JobFeeds
from swarm_hub.components.gateway.links.base import NodeLink, NodeLinks, NodeWords
from swarm_hub.components.gateway.links.signed import link_workers
from swarm_hub.components.gateway.metrics import JobMetrics
from swarm_hub.components.gateway.nodes.drains import Drains
from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.gateway.nodes.gateways import Gateways
from swarm_hub.components.gateway.nodes.history import Histories
from swarm_hub.components.gateway.nodes.introductions import Introductions
from swarm_hub.components.gateway.nodes.invitations import Invitations
from swarm_hub.components.gateway.nodes.labels import NodeLabels
from swarm_hub.components.gateway.nodes.networks import Networks
from swarm_hub.components.gateway.results.failures import Failures
from swarm_hub.components.gateway.results.module_reduce import ModuleReducer
from swarm_hub.components.gateway.results.partial import PartialResults
from swarm_hub.components.gateway.results.receipts import ReceiptPolicy, ReceiptRule
from swarm_hub.components.gateway.results.reduce import ReduceError, register_reducer
from swarm_hub.components.gateway.results.result_cache import ResultCache
from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.story import JobStory
from swarm_hub.components.gateway.submission.intake import Intake
from swarm_hub.components.gateway.submission.module_call import owner_key
from swarm_hub.components.gateway.submission.spec import parse_spec
from swarm_hub.components.gateway.submission.uploads import Uploads
from swarm_hub.components.gateway.views import register
from swarm_hub.components.gateway.watchers import JobWatchers
from swarm_hub.components.mesh import MESH, Capability
from swarm_hub.components.runtimes import RUNTIMES
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.components.scheduler import STRATEGY, UNPROVEN, StateMachine
from swarm_hub.components.signer import ADMISSION, SIGNER
from swarm_hub.components.sla import SLA
from swarm_hub.components.telemetry import TELEMETRY
from swarm_hub.const import IDENTITY_KEY_FILE
from swarm_hub.core import Hub, HubKey, SimpleReloader, StopStage
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.admission import AdmissionPolicy
from swarm_hub.storage.queries.nodes import all_nodes
from swarm_hub.util.files import load_or_create_key

if TYPE_CHECKING:
    from swarm_hub.helpers.obstacles import Obstacle, Site

_LOGGER = logging.getLogger(__name__)

__all__ = [
    "FLEET",
    "JOBS",
    "JOB_METRICS",
    "NODE_LINKS",
    "NodeLink",
    "NodeLinks",
    "NodeWords",
    "ReduceError",
    "parse_spec",
    "register_reducer",
]

JOBS: Final = HubKey[JobService]("jobs")
FLEET: Final = HubKey[Fleet]("fleet")
JOB_METRICS: Final = HubKey[JobMetrics]("job_metrics")
_DISPATCHER_BOUND_S: Final = 45.0
# A store that does not answer finds out by itself that the lease has run out.
_LEAVE_WITHIN_S: Final = 1.0
# Code that can reach nodes registers them here.
NODE_LINKS: Final = HubKey[NodeLinks]("node_links")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """`gateway:`: whom it admits, which jobs it takes and which receipts it keeps."""

    redundancy: int | str
    receipts: str
    admission: str
    dataset_bytes: int
    jobs: int
    jobs_per_owner: int | None
    wall_time_s: float | None
    uploads_bytes: int
    keep_uploads_s: float


CONFIG_SCHEMA = cv.section(
    {
        cv.Key("redundancy", default=1, reloadable=True): cv.redundancy,
        cv.Key("receipts", default="redundant", reloadable=True): cv.one_of(*ReceiptPolicy),
        cv.Key("admission", default="token", reloadable=True): cv.one_of(*AdmissionPolicy),
        cv.Key("dataset", default="256MiB", reloadable=True, field="dataset_bytes"): cv.size,
        cv.Key("jobs", default=1000, reloadable=True): cv.integer(1, 1_000_000),
        cv.Key("jobs_per_owner", default=None, reloadable=True): cv.optional(
            cv.integer(1, 1_000_000)
        ),
        cv.Key("wall_time", default=None, reloadable=True, field="wall_time_s"): cv.optional(
            cv.positive_duration
        ),
        cv.Key("uploads", default="1GiB", reloadable=True, field="uploads_bytes"): cv.size,
        cv.Key(
            "keep_uploads", default="24h", reloadable=True, field="keep_uploads_s"
        ): cv.positive_duration,
    },
    GatewayConfig,
)


async def async_setup(hub: Hub, config: GatewayConfig) -> bool:
    """Continue unfinished jobs and have its views served."""
    mesh, channel = hub.services[MESH], hub.services[SIGNER]
    hub.roles.add("gateway")
    if (risk := _risk(config)) is not None:
        _LOGGER.warning("%s", risk)
    catalog = await hub.services[RUNTIMES].offer()
    said = {"runtimes": offer} if (offer := catalog.offer()) else {}
    mesh.register(
        Capability("gateway", said, works_with="worker", hears_gossip=True, listens_for_bulk=True)
    )
    hub.services[ADMISSION].decide_by(AdmissionPolicy(config.admission))
    receipts = ReceiptRule(ReceiptPolicy(config.receipts))
    watchers = JobWatchers()
    services = hub.services
    machine = StateMachine(services[STRATEGY], services[SLA], services[UNPROVEN])
    sandbox, bounds = hub.services[SANDBOX], config
    trust = await Trust.load(hub)
    key = owner_key(load_or_create_key(hub.storage_path(IDENTITY_KEY_FILE), "mesh identity"))
    result_cache = ResultCache(hub, ModuleReducer(hub, sandbox, mesh.peer_id, key))
    failures = Failures(hub)
    dispatcher = Dispatcher(
        hub,
        mesh.peer_id,
        machine,
        result_cache,
        failures,
        trust,
        watchers.job_changed,
        key,
        receipts.keeps,
    )
    known = await hub.store.read(all_nodes)
    drains, labels = Drains.of(hub, dispatcher.links, known), NodeLabels.of(hub, known)
    fleet = Fleet(
        hub, mesh, channel, hub.services[TELEMETRY], dispatcher, machine, drains, labels, trust
    )
    intake = Intake(
        hub,
        sandbox,
        mesh.peer_id,
        config.dataset_bytes,
        config.redundancy,
        lambda: dispatcher.n_jobs < bounds.jobs,
        config.jobs_per_owner,
        config.wall_time_s or sandbox.limits.wall_time_s,
        dispatcher.n_jobs_of,
        dispatcher.add,
        catalog,
    )
    partial_results = PartialResults(hub, result_cache)
    service = JobService(
        hub, receipts, watchers, intake, dispatcher, machine, partial_results, failures
    )
    hub.services[JOBS] = service
    hub.endpoints.add_limits(
        lambda: {
            "dataset": bounds.dataset_bytes, "module": intake.module_bytes_max,
            "jobs": bounds.jobs, "jobs_per_owner": bounds.jobs_per_owner,
        }
    )  # fmt: skip
    hub.endpoints.judge_events_by(KnownJobs(hub, dispatcher.known))
    hub.endpoints.add_event_type("job_progress")
    uploads = Uploads(
        hub,
        max(config.dataset_bytes, sandbox.module_bytes_max),
        config.uploads_bytes,
        config.keep_uploads_s,
    )
    feeds = JobFeeds(hub)
    metrics = JobMetrics(hub, dispatcher, machine, fleet)
    hub.services[FLEET], hub.services[JOB_METRICS] = fleet, metrics
    histories = Histories(hub, hub.services[TELEMETRY], fleet, metrics)
    JobStory(hub, dispatcher, service.cancelled_by)
    gateways = Gateways(hub, mesh, channel, fleet, hub.services[CLIENT_URLS])
    invitations = Invitations(hub, mesh, channel, gateways)
    register(
        hub, service, uploads, feeds, fleet, Networks(hub, mesh), invitations, histories, gateways
    )

    lease_keeper = LeaseKeeper(hub, mesh.peer_id, dispatcher, gateways.own)
    if hub.store.shared:
        watch(hub, HandOver(hub, dispatcher, machine, lambda: lease_keeper.living))
        Introductions(hub, mesh, channel, lambda: lease_keeper.living)
    NodeMessages(hub, dispatcher, machine, dispatcher.inputs, receipts)
    hub.services[NODE_LINKS] = dispatcher.links
    link_workers(hub, mesh, channel, dispatcher.links)

    def apply(new: GatewayConfig) -> None:
        nonlocal bounds
        if (risk := _risk(new)) is not None and new.admission != bounds.admission:
            _LOGGER.warning("%s", risk)
        bounds, sandbox = new, services[SANDBOX]
        services[ADMISSION].decide_by(AdmissionPolicy(new.admission))
        receipts.policy = ReceiptPolicy(new.receipts)
        machine.decide_by(services[STRATEGY], services[SLA], services[UNPROVEN])
        intake.bound(
            sandbox, new.dataset_bytes, new.redundancy, new.jobs_per_owner,
            new.wall_time_s or sandbox.limits.wall_time_s,
        )  # fmt: skip
        uploads.bound(
            max(new.dataset_bytes, sandbox.module_bytes_max), new.uploads_bytes, new.keep_uploads_s
        )

    hub.reloaders["gateway"] = SimpleReloader(apply)

    async def leave() -> None:
        await fleet.hold_back()
        # Whoever waits asks elsewhere, where the jobs will be.
        watchers.close()
        feeds.close()
        await lease_keeper.resign()

    async def start() -> None:
        await lease_keeper.start()
        dispatcher.start()
        hub.watchdog.watch(
            "the dispatcher", dispatcher.sign, _DISPATCHER_BOUND_S, dispatcher.restart
        )

    hub.on_start(start)
    # Before the API, which is set up before this, closes: it waits for its clients.
    hub.on_stop(StopStage.INTAKE, "gateway", leave, _LEAVE_WITHIN_S)
    return True


def preflight(site: "Site", config: GatewayConfig) -> "Iterator[Obstacle]":
    """Yield what its owner should not leave as it is."""
    yield from site.warning(_risk(config), "admission")


def _risk(config: GatewayConfig) -> str | None:
    if config.admission != AdmissionPolicy.OPEN:
        return None
    return (
        "Whoever reaches the mesh port becomes a node: it is given data of all jobs, and can send "
        "wrong results; let in who is invited instead (gateway: admission: token, swarm-hub invite)"
    )
