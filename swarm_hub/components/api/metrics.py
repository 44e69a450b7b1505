"""`/metrics` as Prometheus reads it: gathered when it is asked for, and measured while it is."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from swarm_hub.components.api.connections import Connections
from swarm_hub.const import __version__
from swarm_hub.core import Hub
from swarm_hub.endpoints import Blob, Request, Scope, View
from swarm_hub.exceptions import StoreError
from swarm_hub.util.metrics import Histogram, Metric, MetricKind, counter, gauge, histogram

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

_MEDIA_TYPE: Final = "text/plain; version=0.0.4"
# The lag of the loop is measured as long as somebody has looked within this time: a hub that nobody
# watches is not woken for it.
_WATCHED_FOR_S: Final = 180.0
_TICK_S: Final = 1.0
# Paths that no view has would otherwise be as many labels as strangers think of.
_NO_VIEW: Final = "none"


class RequestMetrics:
    """Counts requests by view and status, and how long their answers took."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, ...]] = Counter()
        self._seconds: dict[tuple[str, ...], Histogram] = {}

    def answered(self, method: str, path: str | None, status: int, took_s: float) -> None:
        """Count one request; `path` is that of its view."""
        view = (method, path) if path is not None else (_NO_VIEW, _NO_VIEW)
        self._answers[(*view, str(status))] += 1
        found = self._seconds.get(view)
        if found is None:
            found = self._seconds[view] = Histogram()
        found.observe(took_s)

    def read(self) -> Iterable[Metric]:
        """Return the metrics."""
        return (
            Metric(
                "swarm_hub_http_requests_total", MetricKind.COUNTER, "Requests by view and status.",
                {**self._answers}, ("method", "path", "status"),
            ),
            Metric(
                "swarm_hub_http_request_seconds", MetricKind.HISTOGRAM, "How long requests took, "
                "with those that wait for a job.", {**self._seconds}, ("method", "path"),
            ),
        )  # fmt: skip


class _LoopLag:
    """How much later than asked for the loop does things."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._until = 0.0
        self._measuring: asyncio.Task[None] | None = None
        self.seconds = Histogram()

    def wanted(self) -> None:
        """Measure for the next minutes."""
        self._until = time.monotonic() + _WATCHED_FOR_S
        if self._measuring is None or self._measuring.done():
            self._measuring = self._hub.tasks.spawn(self._measure(), "lag of the loop")

    async def _measure(self) -> None:
        while (began := time.monotonic()) < self._until:
            await asyncio.sleep(_TICK_S)
            self.seconds.observe(max(0.0, time.monotonic() - began - _TICK_S))


def metrics_view(hub: Hub, requests: RequestMetrics, connections: Connections) -> View:
    """Return the view."""
    lag = _LoopLag(hub)
    hub.endpoints.add_metrics(requests.read)

    async def own() -> Iterable[Metric]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        found = [
            Metric(
                "swarm_hub_info", MetricKind.GAUGE, "Always 1; the labels say which hub this is.",
                {(hub.name, __version__): 1}, ("name", "version"),
            ),
            gauge("swarm_hub_ok", "Whether all of its parts make their rounds.",
                  not await hub.watchdog.problems()),
            gauge("swarm_hub_api_connections", "Open connections of the API.", connections.count),
            histogram("swarm_hub_loop_lag_seconds", "By how much the loop was late, looked at "
                      "each second while metrics are read.", lag.seconds),
            counter("swarm_hub_wakeups_total", "How often the process waited and was woken.",
                    usage.ru_nvcsw),
            *hub.store.metrics(),
        ]  # fmt: skip
        try:
            found.append(
                gauge("swarm_hub_store_bytes", "Size of the database and its blobs.",
                      await hub.store.disk_bytes())
            )  # fmt: skip
        except StoreError:
            # What can still be told is told.
            return found
        return found

    async def metrics(_request: Request) -> Blob:
        """Return the hub's metrics as Prometheus reads them."""
        lag.wanted()
        found = [*await own(), *hub.endpoints.metrics()]
        # In a thread, as the first look imports the library, which takes longer than all others.
        return Blob(await asyncio.to_thread(_written, found), _MEDIA_TYPE)

    kinds = (_MEDIA_TYPE,)
    return View("GET", "/metrics", metrics, Scope.READ, bytes, outside=True, media_types=kinds)


def _written(found: Iterable[Metric]) -> bytes:
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.registry import Collector

    class Found(Collector):
        def collect(self) -> "Iterable[Family]":
            return [_family(metric) for metric in found]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Found())
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _family(metric: Metric) -> "Family":
    from prometheus_client import core

    kind = {
        MetricKind.GAUGE: core.GaugeMetricFamily,
        MetricKind.COUNTER: core.CounterMetricFamily,
        MetricKind.HISTOGRAM: core.HistogramMetricFamily,
    }[metric.kind]
    made: Any = kind(metric.name, metric.text, labels=metric.labels)
    for labels, value in metric.values.items():
        if isinstance(value, Histogram):
            bounds = [*(f"{bound:g}" for bound in value.bounds), "+Inf"]
            made.add_metric(labels, list(zip(bounds, value.up_to(), strict=True)), value.total)
        else:
            made.add_metric(labels, value)
    family: Family = made
    return family
