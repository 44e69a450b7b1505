"""Some items of a stored dataset as the dataset of another job, of which only they are copied."""

import array
import dataclasses
import math
from collections.abc import Sequence
from typing import Final

from swarm_hub.components.gateway.submission.dataset import FILE_COUNT, Bytes, Dataset, Measured
from swarm_hub.components.gateway.submission.places import Parts, pack_parts
from swarm_hub.exceptions import InvalidInput
from swarm_hub.models.job import Job, JobSpec, Split

# A run of items: the first one, and how many they are.
Run = tuple[int, int]

RUNS_MAX: Final = 10_000
_SHARDS_MAX: Final = 1_000_000


def joined(runs: Sequence[Run]) -> list[Run]:
    """Return runs in item order, those that touch or overlap as one."""
    found: list[Run] = []
    for first, n_items in sorted(runs):
        if found and first <= sum(found[-1]):
            before = found[-1][0]
            found[-1] = before, max(sum(found[-1]), first + n_items) - before
        else:
            found.append((first, n_items))
    return found


def chosen(job: Job, body: Bytes, parts: Parts | None, runs: Sequence[Run]) -> Measured:
    """Return these items of a job's dataset as a dataset; raises RequestError."""
    if (end := sum(runs[-1])) > job.n_items:
        raise InvalidInput.at(
            "items", f"item {end - 1} is past the {job.n_items} items of job {job.id}"
        )
    n_items = sum(n_here for _, n_here in runs)
    split, record_bytes = job.spec.split, job.spec.record_bytes
    dataset = Dataset(job, body)
    if split is Split.RANGE:
        values = [(dataset.value(first), n_here) for first, n_here in runs]
        said = b"\n".join(b"%d:%d" % (low, low + n_here) for low, n_here in values)
        index = pack_parts([(str(low), n_here) for low, n_here in values])
        return Measured(
            split, 0, [said], n_items, values[0][0], parts=index if len(runs) > 1 else b""
        )
    pieces = [dataset.part(first, n_here) for first, n_here in runs]
    if split is not Split.FILES:
        # A line's number in its file would be another one now.
        return Measured(split, record_bytes, pieces, n_items)
    items = [first + at for first, n_here in runs for at in range(n_here)]
    sizes = array.array("Q", (len(dataset.part(item, 1)) for item in items))
    names = [("" if parts is None else parts.find(item)[0], 1) for item in items]
    ending = sizes.tobytes() + FILE_COUNT.pack(len(items))
    return Measured(split, 0, [*pieces, ending], n_items, parts=pack_parts(names))


def spec_of(spec: JobSpec, runs: Sequence[Run]) -> JobSpec:
    """Return the spec for these items; raises InvalidInput if they need too many shards.

    A shard of a range is one run of numbers, so those that are apart are cut where they end.
    """
    if spec.split is Split.RANGE and len(runs) > 1:
        size = math.gcd(spec.shard_size or 0, *(n_items for _, n_items in runs))
        if sum(n_items for _, n_items in runs) // size > _SHARDS_MAX:
            raise InvalidInput(
                "too_many_shards",
                f"these runs of numbers need shards of {size}, more than {_SHARDS_MAX} of them; "
                "submit each run as a job of its own",
            )
        spec = dataclasses.replace(spec, shard_size=size)
    known, n_before = [], 0
    for first, n_items in runs:
        for answer in spec.known_answers:
            at = answer.first_item - first
            if at >= 0 and at + answer.n_items <= n_items:
                known.append(dataclasses.replace(answer, first_item=n_before + at))
        n_before += n_items
    return dataclasses.replace(spec, known_answers=tuple(known))
