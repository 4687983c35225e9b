"""What users may change of a swarm, its nodes and its networks, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from support.swarmstate import Memory, opened

from rorqual.api.network import IPAM, IPAMConfig, NetworkCreateRequest
from rorqual.api.swarm import (
    CAConfig,
    DispatcherConfig,
    EncryptionConfig,
    InitRequest,
    ManagerStatus,
    NodeDescription,
    NodeSpec,
    NodeStatus,
    OrchestrationConfig,
    SwarmSpec,
)
from rorqual.errdefs import Conflict, Error, InvalidArgument, NotFound, NotImplementedHere, PermissionDenied
from rorqual.swarm import objects
from rorqual.swarm.manager import Manager
from rorqual.swarm.manager.cluster import ClusterManager, new_cluster
from rorqual.swarm.manager.networks import NetworkManager
from rorqual.swarm.manager.nodes import NodeManager
from rorqual.swarm.objects import Cluster, Member
from rorqual.swarm.store.state import State

PLAIN = InitRequest()
HOUR = 3600 * 1_000_000_000
Test = Callable[[Manager, State], Coroutine[Any, Any, None]]
changes: list[Cluster] = []


@asynccontextmanager
async def swarm(wanted: InitRequest) -> AsyncIterator[tuple[Manager, State]]:
    ticks = count()
    now = lambda: f"2026-01-01T00:00:{next(ticks):02}Z"  # noqa: E731
    async with opened(Memory()) as state:
        cluster = new_cluster(wanted, now())
        member = Member(
            "n1", now(), now(), NodeSpec(labels={}, role="manager", availability="active"),
            NodeDescription("host1"), NodeStatus("ready"), ManagerStatus(True, "reachable", "10.1.1.1:2377"),
        )  # fmt: skip
        await state.commit(
            put=[objects.stored("cluster", cluster.id, cluster), objects.stored("node", member.id, member)]
        )
        changes.clear()

        async def changed(cluster: Cluster) -> None:
            changes.append(cluster)

        manager = ClusterManager(state, now, changed)
        yield Manager(manager, NodeManager(state, now), NetworkManager(state, manager, now)), state


def run(test: Test, wanted: InitRequest = PLAIN) -> None:
    async def whole() -> None:
        async with swarm(wanted) as (manager, state):
            await test(manager, state)

    asyncio.run(asyncio.wait_for(whole(), 20))


def version(manager: Manager) -> int:
    return manager.cluster.info().version.index


# --- the cluster


def test_what_an_update_leaves_empty_stays() -> None:
    async def test(manager: Manager, state: State) -> None:
        before = manager.cluster.swarm()
        wanted = SwarmSpec(orchestration=OrchestrationConfig(0), labels={"a": "b"})
        await manager.cluster.update(version(manager), wanted)
        after = manager.cluster.swarm()
        assert after.spec == replace(before.spec, orchestration=OrchestrationConfig(0), labels={"a": "b"})
        assert after.join_tokens == before.join_tokens and after.tls_info == before.tls_info
        assert after.version.index > before.version.index and after.updated_at > before.updated_at
        assert [c.spec for c in changes] == [after.spec]

    run(test)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (SwarmSpec(name="other"), "modification of cluster name is not allowed"),
        (SwarmSpec(ca_config=CAConfig(HOUR - 1)), "minimum certificate expiry time is 1h0m0s"),
        (SwarmSpec(dispatcher=DispatcherConfig(-1)), "cannot be a negative duration"),
        (SwarmSpec(ca_config=CAConfig(external_c_as=({"URL": "x"},))), "external certificate authorities"),
        (SwarmSpec(ca_config=CAConfig(signing_ca_key="x")), "needs its certificate"),
        (SwarmSpec(ca_config=CAConfig(signing_ca_cert="x")), "needs its key"),
        (SwarmSpec(ca_config=CAConfig(signing_ca_cert="x", signing_ca_key="y")), "invalid signing CA"),
    ],
)
def test_a_bad_setting_is_refused_and_changes_nothing(spec: SwarmSpec, text: str) -> None:
    async def test(manager: Manager, state: State) -> None:
        before = manager.cluster.swarm()
        with pytest.raises((InvalidArgument, NotImplementedHere), match=text):
            await manager.cluster.update(version(manager), spec)
        assert manager.cluster.swarm() == before and not changes

    run(test)
    with pytest.raises((InvalidArgument, NotImplementedHere), match=text):
        new_cluster(InitRequest(spec=spec), "")


@pytest.mark.parametrize(
    "wanted",
    [
        InitRequest(default_addr_pool=("10.0.0.0/33",)),
        InitRequest(default_addr_pool=("10.0.0.1/8",)),
        InitRequest(default_addr_pool=("10.0.0.0/8", "10.1.0.0/16")),
        InitRequest(default_addr_pool=("10.0.0.0/8",), subnet_size=30),
        InitRequest(default_addr_pool=("10.0.0.0/25",)),
        InitRequest(data_path_port=1023),
        InitRequest(data_path_port=49152),
    ],
)
def test_a_bad_swarm_is_not_made(wanted: InitRequest) -> None:
    with pytest.raises(InvalidArgument):
        new_cluster(wanted, "")


def test_an_update_names_the_state_that_it_changes() -> None:
    async def test(manager: Manager, state: State) -> None:
        with pytest.raises(InvalidArgument, match="update out of sequence"):
            await manager.cluster.update(version(manager) + 1, SwarmSpec())

    run(test)


def test_tokens_and_the_unlock_key_are_made_anew_one_by_one() -> None:
    async def test(manager: Manager, state: State) -> None:
        locked = SwarmSpec(encryption_config=EncryptionConfig(True))
        assert manager.cluster.get().unlock_key == ""
        await manager.cluster.update(version(manager), locked)
        first = manager.cluster.get()
        assert first.unlock_key.startswith("SWMKEY-1-")
        for flag, of in (
            ("worker", lambda c: c.tokens.worker),
            ("manager", lambda c: c.tokens.manager),
            ("unlock_key", lambda c: c.unlock_key),
        ):
            before = manager.cluster.get()
            await manager.cluster.update(version(manager), locked, **{flag: True})
            after = manager.cluster.get()
            assert of(after) != of(before)
            same = replace(after, tokens=before.tokens, unlock_key=before.unlock_key, updated_at=before.updated_at)
            assert same == before
        await manager.cluster.update(version(manager), SwarmSpec())
        assert manager.cluster.get().unlock_key == ""

    run(test)


def test_a_new_root_is_told_by_the_tokens() -> None:
    async def test(manager: Manager, state: State) -> None:
        before = manager.cluster.swarm()
        await manager.cluster.update(version(manager), SwarmSpec(ca_config=CAConfig(force_rotate=1)))
        after = manager.cluster.swarm()
        assert after.tls_info.trust_root != before.tls_info.trust_root
        assert after.join_tokens.worker.rpartition("-")[0] != before.join_tokens.worker.rpartition("-")[0]
        assert after.join_tokens.worker.rpartition("-")[2] == before.join_tokens.worker.rpartition("-")[2]
        await manager.cluster.update(version(manager), after.spec)
        assert manager.cluster.swarm().tls_info == after.tls_info, "no second rotation for the same number"

    run(test)


# --- nodes


def test_a_node_is_found_by_id_name_and_start() -> None:
    async def test(manager: Manager, state: State) -> None:
        member = objects.read(Member, state.all("node")[0])
        await state.commit(put=[objects.stored("node", "n22", replace(member, id="n22"))])
        assert manager.nodes.get("n1").id == "n1" and manager.nodes.get("n2").id == "n22"
        for reference in ("host1", "n"):
            with pytest.raises(InvalidArgument, match="ambiguous"):
                manager.nodes.get(reference)
        for reference in ("x", ""):
            with pytest.raises(NotFound, match=f"node {reference} not found"):
                manager.nodes.get(reference)

    run(test)


def test_a_nodes_spec_is_replaced() -> None:
    async def test(manager: Manager, state: State) -> None:
        node = manager.nodes.get("n1")
        spec = NodeSpec(labels={"a": "b"}, role="manager", availability="drain")
        await manager.nodes.update("host1", node.version.index, spec)
        assert manager.nodes.get("n1").spec == spec
        for wanted, text in (
            (replace(spec, role="worker"), "demote the last manager"),
            (replace(spec, role="king"), "invalid Role"),
            (replace(spec, availability="on"), "invalid Availability"),
            (spec, "out of sequence"),
        ):
            with pytest.raises(InvalidArgument, match=text):
                await manager.nodes.update("n1", node.version.index, wanted)

    run(test)


def test_only_a_worker_that_is_gone_is_removed() -> None:
    async def test(manager: Manager, state: State) -> None:
        member = objects.read(Member, state.all("node")[0])
        worker = replace(member, id="w1", spec=replace(member.spec, role="worker"), description=NodeDescription("w"))
        await state.commit(put=[objects.stored("node", "w1", worker)])
        with pytest.raises(InvalidArgument, match="must be demoted to worker before removal"):
            await manager.nodes.remove("n1", force=True)
        with pytest.raises(InvalidArgument, match="is not down and can't be removed"):
            await manager.nodes.remove("w", force=False)
        await manager.nodes.remove("w", force=True)
        assert [node.id for node in manager.nodes.all()] == ["n1"]

    run(test)


# --- networks


def subnets(manager: Manager) -> list[str]:
    return [config.subnet for network in manager.networks.all() for config in network.resource.ipam.config]


def test_networks_have_subnets_and_numbers_of_their_own() -> None:
    async def test(manager: Manager, state: State) -> None:
        for name in ("a", "b", "c"):
            await manager.networks.create(NetworkCreateRequest(name, "overlay"))
        assert subnets(manager) == ["10.7.0.0/26", "10.7.0.64/26", "10.7.0.128/26"]
        assert [network.vni for network in manager.networks.all()] == [4096, 4097, 4098]
        gone = manager.networks.find("b")
        assert gone is not None
        await manager.networks.remove(gone)
        with pytest.raises(NotFound):
            await manager.networks.remove(gone)
        again = await manager.networks.create(NetworkCreateRequest("d", "overlay"))
        assert (again.resource.ipam.config[0].subnet, again.vni) == ("10.7.0.64/26", 4097)
        await manager.networks.create(NetworkCreateRequest("e", "overlay"))
        with pytest.raises(Error, match="failed to find an available IP subnet"):
            await manager.networks.create(NetworkCreateRequest("f", "overlay"))

    run(test, InitRequest(default_addr_pool=("10.7.0.0/24",), subnet_size=26))


def pool(subnet: str, **more: Any) -> NetworkCreateRequest:
    return NetworkCreateRequest("x", "overlay", ipam=IPAM("default", None, (IPAMConfig(subnet, **more),)))


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [
        (NetworkCreateRequest("a b", "overlay"), InvalidArgument, "valid as a DNS name"),
        (NetworkCreateRequest("x" * 64, "overlay"), InvalidArgument, "valid as a DNS name"),
        (NetworkCreateRequest("x", "nosuch"), InvalidArgument, "driver nosuch cannot be used"),
        (NetworkCreateRequest("red", "overlay"), Conflict, "network with name red already exists"),
        (NetworkCreateRequest("x", "overlay", ingress=True, attachable=True), InvalidArgument, "attachable"),
        (NetworkCreateRequest("x", "overlay", ingress=True, internal=True), InvalidArgument, "internal"),
        (NetworkCreateRequest("x", "bridge", ingress=True), InvalidArgument, "driver overlay"),
        (NetworkCreateRequest("x", "overlay", enable_ipv6=True), InvalidArgument, "IPv6 subnet must be given"),
        (NetworkCreateRequest("x", "overlay", ipam=IPAM("other")), InvalidArgument, "IPAM driver other"),
        (pool("10.50.0.0/25"), PermissionDenied, "Pool overlaps"),
        (pool("10.9.0.0/31"), InvalidArgument, "no room"),
        (pool("10.9.0.1/24"), InvalidArgument, "invalid subnet"),
        (pool("10.9.0.0/24", gateway="10.8.0.1"), InvalidArgument, "no matching subnet"),
        (pool("10.9.0.0/24", gateway="x"), InvalidArgument, "invalid address"),
        (pool("10.9.0.0/24", ip_range="10.8.0.0/25"), InvalidArgument, "no matching subnet"),
        (pool("10.9.0.0/24", ip_range="x"), InvalidArgument, "invalid ip-range"),
        (replace(pool("10.9.0.0/24"), options={"com.docker.network.driver.overlay.vxlanid_list": "7"}), Conflict, "7"),
        (
            replace(pool("10.9.0.0/24"), options={"com.docker.network.driver.overlay.vxlanid_list": "16777216"}),
            InvalidArgument,
            "invalid vxlan id",
        ),
    ],
)
def test_a_network_that_cannot_be_is_refused(wanted: NetworkCreateRequest, error: type[Error], text: str) -> None:
    async def test(manager: Manager, state: State) -> None:
        red = NetworkCreateRequest(
            "red",
            "overlay",
            ipam=IPAM("default", None, (IPAMConfig("10.50.0.0/24"),)),
            options={"com.docker.network.driver.overlay.vxlanid_list": "7"},
        )
        await manager.networks.create(red)
        with pytest.raises(error, match=text):
            await manager.networks.create(wanted)
        assert [network.resource.name for network in manager.networks.all()] == ["red"]

    run(test)


def test_there_is_one_ingress_network() -> None:
    async def test(manager: Manager, state: State) -> None:
        first = await manager.networks.create(NetworkCreateRequest("ingress", "overlay", ingress=True))
        with pytest.raises(Conflict, match="is already present"):
            await manager.networks.create(NetworkCreateRequest("other", "overlay", ingress=True))
        await manager.networks.remove(first)
        await manager.networks.create(NetworkCreateRequest("other", "overlay", ingress=True))

    run(test)
