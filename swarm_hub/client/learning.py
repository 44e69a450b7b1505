"""Which of the addresses that a gateway tells of others a client takes.

Where it goes with its token nobody shall decide but its user and the gateways that these named: a
connection that nobody reads along is not left for one that somebody may, and what is on the
client's own device is found by nobody elsewhere.
"""

import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from swarm_hub.client.errors import ClientError
from swarm_hub.client.reach import Reach
from swarm_hub.credentials import is_here
from swarm_hub.util.bounds import is_text

# Of one swarm, however many it tells of.
GATEWAYS_MAX: Final = 16
_URLS_MAX: Final = 8
_CHARS_MAX: Final = 256


def learnt(told: Any, by: Reach, known: set[str], ids: set[str]) -> Iterator[Reach]:
    """Yield how the gateways are reached that were told of, one address for each.

    Those in `known` and `ids` are left out, and what comes is put there.
    """
    for each in _objects(told.get("gateways") if isinstance(told, dict) else None):
        name, urls = each.get("gateway_id"), each.get("urls")
        if not isinstance(name, str) or not is_text(name, _CHARS_MAX, 1) or name in ids:
            continue
        found = [] if each.get("answers") is True else list(_fitting(urls, by))
        if each.get("answers") is True or any(reach.base in known for reach in found):
            ids.add(name)
        elif found and len(known) < GATEWAYS_MAX:
            ids.add(name)
            known.add(found[0].base)
            yield found[0]


def _objects(value: Any) -> list[dict[str, Any]]:
    found = value[: 4 * GATEWAYS_MAX] if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]


def _fitting(urls: Any, by: Reach) -> list[Reach]:
    """Return the addresses that may be asked, those first that look most like the known one."""
    found = []
    for url in urls[:_URLS_MAX] if isinstance(urls, list) else ():
        if not is_text(url, _CHARS_MAX, 1) or not url.startswith(("http://", "https://")):
            continue
        try:
            reach = Reach.parse(url)
        except ClientError:
            continue
        if _may_follow(reach, by):
            found.append(reach)
    return sorted(found, key=lambda reach: -_n_alike(_host(by), _host(reach)))


def _n_alike(one: str, other: str) -> int:
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _ in same)


def _may_follow(reach: Reach, by: Reach) -> bool:
    if _is_own(reach):
        return _is_own(by)
    # Nobody reads along on this device, nor with TLS: plain http would be a step down from either.
    return reach.base.startswith("https://") or not (_is_own(by) or by.base.startswith("https://"))


def _is_own(reach: Reach) -> bool:
    """Whether an address leads to this device."""
    if reach.socket is not None or is_here(reach.base):
        return True
    host = _host(reach)
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.rstrip(".").endswith("localhost")
    return ip.is_loopback or ip.is_unspecified


def _host(reach: Reach) -> str:
    return urlsplit(reach.base).hostname or ""
