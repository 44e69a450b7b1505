"""Calls about what a swarm is made of: nodes, networks, invitations, the hub and its own worker."""

from collections.abc import Sequence
from typing import Any

from swarm_hub.client.calls import Calls
from swarm_hub.client.records import (
    Health,
    Invite,
    LivingGateway,
    NetworkBan,
    Node,
    Record,
    WorkerState,
)


class DeviceCalls(Calls):
    """Most need a token of scope `admin`."""

    async def nodes(self) -> list[Node]:
        """Return every node the gateway has met.

        >>> "up" in [node.state for node in await swarm.nodes()]
        True
        """
        return list(Node.each_of((await self._json("GET", "/nodes"))["nodes"]))

    async def node_action(self, /, node_id: str, action: str, **content: Any) -> Node:
        """Do `ban`, `unban`, `drain`, `undrain` or `label` to a node; returns it.

        `ban` takes `reason` and `for_s` (seconds, None for no end), `drain` a `reason`, `label`
        `labels` to set, None for one that is to go.

        >>> (await swarm.node_action(node_id, "drain", reason="new battery")).drain_reason
        'new battery'
        >>> (await swarm.node_action(node_id, "undrain")).state
        'up'
        """
        return Node(await self._json("POST", f"/nodes/{node_id}/{action}", json=content))

    async def approve(self, node_id: str) -> Node:
        """Admit a node that waits for approval, or one that has yet to connect.

        >>> (await swarm.approve("12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5")).state
        'approved'
        """
        return await self.node_action(node_id, "approve")

    async def runtimes(self) -> list[Record]:
        """Return the languages of programs, and the runtime that the hub has for each.

        >>> [each["name"] for each in await swarm.runtimes()]
        ['python', 'javascript']
        """
        return list(Record.each_of((await self._json("GET", "/runtimes"))["runtimes"]))

    async def automations(self) -> Record:
        """Return the hub's `automations` with the newest run of each, and their `notices`.

        >>> [each["id"] for each in (await swarm.automations())["automations"]]
        ['greet']
        """
        return Record(await self._json("GET", "/automations"))

    async def automation_traces(self, automation_id: str) -> list[Record]:
        """Return the last runs of an automation, newest first.

        >>> _ = await swarm.trigger_automation("greet")
        >>> (await swarm.automation_traces("greet"))[0]["trigger"]["kind"]
        'manual'
        """
        answer = await self._json("GET", f"/automations/{automation_id}/traces")
        return list(Record.each_of(answer["traces"]))

    async def trigger_automation(self, automation_id: str, job_id: str | None = None) -> Record:
        """Run an automation now, as if an event of that job had triggered it; returns the run.

        >>> (await swarm.trigger_automation("greet", job_id))["trigger"]["job_id"] == job_id
        True
        """
        content = {} if job_id is None else {"job_id": job_id}
        path = f"/automations/{automation_id}/trigger"
        # A second one would run it twice.
        return Record(await self._json("POST", path, json=content, repeat=False))

    async def enable_automation(self, automation_id: str, *, enabled: bool = True) -> Record:
        """Let an automation be triggered again, or not until it is enabled; returns it.

        >>> (await swarm.enable_automation("greet", enabled=False))["enabled"]
        False
        >>> (await swarm.enable_automation("greet"))["enabled"]
        True
        """
        way = "enable" if enabled else "disable"
        return Record(await self._json("POST", f"/automations/{automation_id}/{way}"))

    async def system(self) -> Record:
        """Return what the hub is made of: its versions, roles, limits and components.

        >>> "gateway" in (await swarm.system())["components"]
        True
        """
        return Record(await self._json("GET", "/system"))

    async def page_code(self, scope: str, name: str = "") -> Record:
        """Make a code that lets the hub's page in once, with a token of this client's owner.

        `urls` are where browsers find the hub; the code follows behind `/#code=`.

        >>> (await swarm.page_code("read"))["expires_s"]
        600.0
        """
        content = {"scope": scope, "name": name}
        return Record(await self._json("POST", "/sessions/codes", json=content))

    async def worker(self) -> WorkerState:
        """Return what the own worker of the hub that answers does, and why it takes no work.

        >>> (await swarm.worker()).paused is None
        True
        """
        return WorkerState(await self._json("GET", "/worker"))

    async def pause(self, for_s: float | None = None) -> WorkerState:
        """Have that worker take no work, for so long or until `resume`; returns it.

        >>> (await swarm.pause(for_s=3600)).paused
        {'until': '...'}
        >>> (await swarm.resume()).paused is None
        True
        """
        return WorkerState(await self._json("POST", "/worker/pause", json={"for_s": for_s}))

    async def resume(self) -> WorkerState:
        """End the pause of that worker; returns it.

        >>> (await swarm.resume()).paused is None
        True
        """
        return WorkerState(await self._json("POST", "/worker/resume"))

    async def gateways(self) -> list[LivingGateway]:
        """Return the gateways that share the hub's store and live; one of them answered.

        >>> [gateway.answers for gateway in await swarm.gateways()]
        [True]
        """
        return list(LivingGateway.each_of((await self._json("GET", "/gateways"))["gateways"]))

    async def banned_networks(self) -> list[NetworkBan]:
        """Return the networks that are banned, with reason and end.

        >>> await swarm.banned_networks()
        []
        """
        return list(NetworkBan.each_of((await self._json("GET", "/networks"))["networks"]))

    async def ban_network(
        self, network: str, *, reason: str = "", for_s: float | None = None, force: bool = False
    ) -> NetworkBan:
        """Refuse every address of a range such as 10.1.0.0/16; returns the ban.

        One that the gateway itself is in is banned only with `force`.

        >>> (await swarm.ban_network("10.9.0.0/16", reason="a flood", for_s=3600)).network
        '10.9.0.0/16'
        >>> await swarm.unban_network("10.9.0.0/16")
        """
        content = {"network": network, "reason": reason, "for_s": for_s, "force": force}
        return NetworkBan(await self._json("POST", "/networks/ban", json=content))

    async def unban_network(self, network: str) -> None:
        """Let a network in again.

        >>> _ = await swarm.ban_network("10.9.0.0/16")
        >>> await swarm.unban_network("10.9.0.0/16")
        >>> await swarm.banned_networks()
        []
        """
        await self._json("POST", "/networks/unban", json={"network": network})

    async def invite(
        self, expires_s: float, addresses: Sequence[str] = (), owner: str | None = None
    ) -> Invite:
        """Make an invitation; returns it with its `link`, which admits one node.

        All nodes of one `owner` have one vote where results are compared.

        >>> (await swarm.invite(expires_s=600, owner="ada")).link
        'swarmhub://join/1/...'
        """
        content = {"expires_s": expires_s, "addresses": list(addresses), "owner": owner}
        # A second one would admit a second node.
        return Invite(await self._json("POST", "/invites", json=content, repeat=False))

    async def invites(self) -> list[Invite]:
        """Return the invitations that are kept.

        >>> made = await swarm.invite(expires_s=600)
        >>> made.id in [invite.id for invite in await swarm.invites()]
        True
        """
        return list(Invite.each_of((await self._json("GET", "/invites"))["invites"]))

    async def revoke_invite(self, invite_id: str) -> None:
        """Remove an invitation; who was admitted by it stays.

        >>> made = await swarm.invite(expires_s=600)
        >>> await swarm.revoke_invite(made.id)
        """
        await self._json("DELETE", f"/invites/{invite_id}")

    async def health(self) -> Health:
        """Return the hub's health; of a hub that is not well it says so in `problems`.

        >>> (await swarm.health()).state
        'running'
        """
        return Health(await self._json("GET", "/health", also=(503,)))
