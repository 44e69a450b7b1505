"""Which job or node is meant: an id, the beginning of one, or a node's name."""

from collections.abc import Sequence
from typing import Any, Final

from swarm_hub.cli.wording import age, local_time
from swarm_hub.client import SwarmClient
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.config_validation import did_you_mean

_JOB_ID_CHARS: Final = 26
# Those that are looked through for a beginning, where the hub can't do so itself.
_LOOKED_AT: Final = 500
_SHOWN: Final = 10


async def the_job(swarm: SwarmClient, text: str) -> str:
    """Return the id of the one job whose id begins so; raises HubError with the candidates."""
    text = text.strip().upper()
    if len(text) == _JOB_ID_CHARS:
        return text
    found = [
        each
        for each in await swarm.jobs(_LOOKED_AT, {"text": text})
        if text and each["job_id"].startswith(text)
    ]
    if not found:
        raise HubError(f"there is no job {text}; see: swarm-hub job list")
    if len(found) > 1:
        told = [
            f"{each['job_id']}  {each['state']}, submitted {age(each['created_at'])} ago "
            f"({local_time(each['created_at'])})"
            for each in found
        ]
        raise _ambiguous(f"{len(found)} jobs have ids that begin with {text}", told)
    return str(found[0]["job_id"])


async def the_node(swarm: SwarmClient, text: str) -> dict[str, Any]:
    """Return the one node with that id, that name or that beginning of its id.

    Raises HubError, with the candidates if there are several.
    """
    nodes = await swarm.nodes()
    found = [each for each in nodes if text == each["node_id"]]
    found = found or [each for each in nodes if text == each["name"]]
    found = found or [each for each in nodes if text and each["node_id"].startswith(text)]
    if not found:
        hint = did_you_mean(text, tuple(each["name"] for each in nodes))
        raise HubError(f"there is no node {text}{hint or '; see: swarm-hub node list'}")
    if len(found) > 1:
        told = [f"{each['node_id']}  {each['state']}, {each['name']}" for each in found]
        raise _ambiguous(f"{text} can be any of {len(found)} nodes", told)
    return found[0]


async def node_names(swarm: SwarmClient) -> dict[str, str]:
    """Return what the nodes are called, by their ids."""
    return {each["node_id"]: each["name"] for each in await swarm.nodes()}


def _ambiguous(said: str, candidates: Sequence[str]) -> HubError:
    more = len(candidates) - _SHOWN
    lines = [*candidates[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    listed = "".join(f"\n  {each}" for each in lines)
    return HubError(f"{said}; give more of the id of the one you mean:{listed}")
