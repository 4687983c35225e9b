"""A swarm of one manager by both command lines: made, changed, locked, left; its networks carry real traffic. Its state
is in a real etcd, and outlives every process."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes
from support.covers import covers
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("etcd"), reason="etcd is not installed"),
]

SERVER = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
ADDRESS = "127.0.0.1"
PUBLISHED = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/', timeout=10).read().decode())"


@pytest.fixture(scope="module")
def own(engine_kind: type[Engine]) -> Iterator[Engine]:
    with engine_kind() as engine:
        yield engine
        engine.api("POST", "/swarm/leave?force=1")


@pytest.fixture(params=("docker", "rorqual"))
def cli(request: pytest.FixtureRequest, own: Engine) -> Iterator[Cli]:
    """Each command line on an engine that is in no swarm, and is in none afterwards."""
    if request.param == "docker" and not shutil.which("docker"):
        pytest.skip("the stock docker CLI is not installed")
    yield own.docker if request.param == "docker" else own.rorqual
    restore(own)


@pytest.fixture
def ours(own: Engine) -> Iterator[Cli]:
    """Where the command line is not what is tested."""
    yield own.rorqual
    restore(own)


def restore(own: Engine) -> None:
    if not own.pids("rorquald"):
        own.start()
    for container in own.api("GET", "/containers/json?all=1").json:
        own.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    own.api("POST", "/swarm/leave?force=1")
    own.api("POST", "/networks/prune")


@pytest.fixture
def swarm(cli: Cli) -> Cli:
    cli("swarm", "init", "--advertise-addr", ADDRESS)
    return cli


def etcd(engine: Engine) -> list[int]:
    """The processes of this engine's etcd."""
    return [p.pid for p in processes.belonging(engine.marker, engine.cgroup_parent) if "etcd --name" in p.command]


def kill_etcd(engine: Engine) -> None:
    """Dead when this returns: one that is dying would take a change and never answer it."""
    pids = etcd(engine)
    processes.kill(pids)
    wait_for(lambda: not {*pids} & {*etcd(engine)}, "etcd is dead")


def state(engine: Engine) -> str:
    return str(engine.api("GET", "/info").json["Swarm"]["LocalNodeState"])


def spec(engine: Engine) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = engine.api("GET", "/swarm").json["Spec"]
    return found


def token(cli: Cli, role: str, *flags: str) -> str:
    return cli.out("swarm", "join-token", "-q", *flags, role)


# --- the swarm itself


@covers("swarm init", "swarm leave", "swarm leave --force")
def test_a_swarm_is_made_and_left(cli: Cli, own: Engine) -> None:
    assert "not a swarm manager" in cli("node", "ls", code=1).err
    assert "not part of a swarm" in cli("swarm", "leave", code=1).err
    out = cli.out("swarm", "init", "--advertise-addr", ADDRESS)
    info = own.api("GET", "/info").json["Swarm"]
    assert f"current node ({info['NodeID']}) is now a manager" in out and token(cli, "worker") in out
    assert info["ControlAvailable"] and (info["Nodes"], info["Managers"]) == (1, 1) and info["NodeAddr"] == ADDRESS
    assert "already part of a swarm" in cli("swarm", "init", "--advertise-addr", ADDRESS, code=1).err
    names = {(n["Name"], n["Scope"], n["Driver"]) for n in own.api("GET", "/networks").json}
    assert {("ingress", "swarm", "overlay"), ("docker_gwbridge", "local", "bridge")} <= names
    assert cli.out("service", "ls", "-q") == "" if cli.name == "docker" else True
    assert own.api("GET", "/tasks").json == own.api("GET", "/secrets").json == own.api("GET", "/configs").json == []
    assert "Use `--force`" in cli("swarm", "leave", code=1).err
    assert state(own) == "active" and etcd(own)
    assert "Node left the swarm." in cli.out("swarm", "leave", "--force")
    assert state(own) == "inactive" and not etcd(own) and not (own.data / "swarm").exists()
    assert "ingress" not in {n["Name"] for n in own.api("GET", "/networks").json}


@covers(
    *(f"swarm init --{flag}" for flag in ("advertise-addr", "listen-addr", "data-path-addr", "data-path-port")),
    *(f"swarm init --{flag}" for flag in ("default-addr-pool", "default-addr-pool-mask-length", "availability")),
    *(f"swarm init --{flag}" for flag in ("cert-expiry", "dispatcher-heartbeat", "max-snapshots", "autolock")),
    *(f"swarm init --{flag}" for flag in ("snapshot-interval", "task-history-limit")),
)
def test_what_init_is_given(cli: Cli, own: Engine) -> None:
    flags = ("--advertise-addr", "lo:4567", "--listen-addr", "127.0.0.1:4568", "--data-path-addr", "127.0.0.1")
    flags += (
        "--data-path-port",
        "5789",
        "--default-addr-pool",
        "10.77.0.0/16",
        "--default-addr-pool-mask-length",
        "26",
    )
    flags += ("--availability", "drain", "--cert-expiry", "48h", "--dispatcher-heartbeat", "7s", "--max-snapshots", "3")
    flags += ("--snapshot-interval", "77", "--task-history-limit", "2", "--autolock")
    out = cli.out("swarm", "init", *flags)
    found = own.api("GET", "/swarm").json
    assert (found["DataPathPort"], found["DefaultAddrPool"], found["SubnetSize"]) == (5789, ["10.77.0.0/16"], 26)
    assert found["Spec"]["CAConfig"]["NodeCertExpiry"] == 48 * 3600 * 10**9
    assert found["Spec"]["Dispatcher"]["HeartbeatPeriod"] == 7 * 10**9
    assert (found["Spec"]["Raft"]["KeepOldSnapshots"], found["Spec"]["Raft"]["SnapshotInterval"]) == (3, 77)
    assert found["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"] == 2
    assert own.api("GET", "/networks/ingress").json["IPAM"]["Config"][0]["Subnet"] == "10.77.0.0/26"
    assert re.search(r"SWMKEY-1-\S+", out), out
    node = own.api("GET", "/nodes").json[0]
    assert node["Spec"]["Availability"] == "drain" and node["ManagerStatus"]["Addr"] == "127.0.0.1:4567"
    place = json.loads((own.data / "swarm/node.json").read_text())
    assert (place["listen"], place["data_path"]) == ("127.0.0.1:4568", "127.0.0.1")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "could not find the system's IP address - specify one with --advertise-addr"),
        (["--advertise-addr", "0.0.0.0"], "must be a non-zero IP address"),
        (["--advertise-addr", "nosuch0"], "must be a non-zero IP address or network interface"),
        (["--advertise-addr", "127.0.0.1:99999"], "invalid port"),
        (["--advertise-addr", ADDRESS, "--listen-addr", "nosuch0"], "listen address must be an IP address"),
        (["--advertise-addr", ADDRESS, "--data-path-addr", "0.0.0.0"], "data path address must be"),
        (["--advertise-addr", ADDRESS, "--data-path-port", "80"], "data path port"),
        (["--advertise-addr", ADDRESS, "--cert-expiry", "1m"], "minimum certificate expiry time is 1h0m0s"),
        (["--advertise-addr", ADDRESS, "--availability", "x"], "only active, pause and drain are supported"),
        (["--advertise-addr", ADDRESS, "--external-ca", "protocol=cfssl,url=https://x"], "external"),
    ],
)
@covers("swarm init --external-ca")
def test_a_swarm_that_cannot_be_is_refused(cli: Cli, own: Engine, flags: list[str], text: str) -> None:
    result = cli("swarm", "init", *flags, code=1)
    assert text in result.err, result
    assert state(own) == "inactive" and not etcd(own)


@covers("swarm init --force-new-cluster")
def test_the_only_node_takes_another_address(swarm: Cli, own: Engine) -> None:
    swarm("network", "create", "-d", "overlay", "red")
    before = own.api("GET", "/nodes").json[0]
    swarm("swarm", "init", "--force-new-cluster", "--advertise-addr", "127.0.0.2")
    after = own.api("GET", "/nodes").json
    assert [node["ID"] for node in after] == [before["ID"]] and after[0]["Status"]["Addr"] == "127.0.0.2"
    assert own.api("GET", "/networks/red").status == 200


@covers(
    *(f"swarm update --{flag}" for flag in ("cert-expiry", "dispatcher-heartbeat", "max-snapshots", "external-ca")),
    *(f"swarm update --{flag}" for flag in ("snapshot-interval", "task-history-limit")),
    "swarm update",
)
def test_settings_are_changed_one_by_one(swarm: Cli, own: Engine) -> None:
    before = spec(own)
    for flag, value, group, key, wanted in (
        ("cert-expiry", "2h", "CAConfig", "NodeCertExpiry", 2 * 3600 * 10**9),
        ("dispatcher-heartbeat", "9s", "Dispatcher", "HeartbeatPeriod", 9 * 10**9),
        ("max-snapshots", "4", "Raft", "KeepOldSnapshots", 4),
        ("snapshot-interval", "88", "Raft", "SnapshotInterval", 88),
        ("task-history-limit", "0", "Orchestration", "TaskHistoryRetentionLimit", 0),
    ):
        assert "Swarm updated." in swarm.out("swarm", "update", f"--{flag}", value)
        before[group][key] = wanted
        assert spec(own) == before
    assert "Usage:" in swarm.out("swarm", "update")
    assert "external" in swarm("swarm", "update", "--external-ca", "protocol=cfssl,url=https://x", code=1).err
    assert spec(own) == before


@covers("swarm join-token", "swarm join-token --quiet", "swarm join-token --rotate")
def test_tokens_are_shown_and_rotated(swarm: Cli) -> None:
    worker, manager = token(swarm, "worker"), token(swarm, "manager")
    assert worker != manager and re.fullmatch(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}", worker)
    out = swarm.out("swarm", "join-token", "manager")
    assert "To add a manager to this swarm" in out and manager in out and f"{ADDRESS}:2377" in out
    assert "Successfully rotated worker join token." in swarm.out("swarm", "join-token", "--rotate", "worker")
    assert token(swarm, "worker") != worker and token(swarm, "manager") == manager
    assert token(swarm, "manager", "--rotate") != manager
    assert "unknown role king" in swarm("swarm", "join-token", "king", code=1).err


@covers(
    "swarm ca",
    *(
        f"swarm ca --{flag}"
        for flag in ("rotate", "detach", "quiet", "ca-cert", "ca-key", "cert-expiry", "external-ca")
    ),
)
def test_the_authority_is_shown_and_rotated(swarm: Cli, own: Engine, tmp_path: Path) -> None:
    first = swarm.out("swarm", "ca")
    worker = token(swarm, "worker")
    assert first.startswith("-----BEGIN CERTIFICATE-----")
    assert swarm.out("swarm", "ca", "--rotate", "--quiet", "--cert-expiry", "3h") == ""
    second = swarm.out("swarm", "ca")
    assert second not in ("", first)
    assert token(swarm, "worker") != worker
    assert own.api("GET", "/nodes").json[0]["Description"]["TLSInfo"]["TrustRoot"].strip() != ""
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", "swarm-root-ca.crt", "swarm-node.crt"],
        cwd=own.data / "swarm/certificates", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.stdout.strip() == "swarm-node.crt: OK", verified
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=mine", "-days", "30"),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    swarm("swarm", "ca", "--rotate", "--detach", "--ca-cert", str(certificate), "--ca-key", str(key))
    assert swarm.out("swarm", "ca") == certificate.read_text().strip()
    for flags, text in (
        (["--cert-expiry", "2h"], "requires the `--rotate` flag"),
        (["--rotate", "--ca-cert", str(certificate)], "requires that a --ca-key flag"),
        (["--rotate", "--external-ca", "protocol=cfssl,url=https://x"], "requires the `--ca-cert` flag"),
    ):
        assert text in swarm("swarm", "ca", *flags, code=1).err
    assert "no such file" in swarm("swarm", "ca", "--rotate", "--ca-cert", "/nope", code=None).err


@covers(
    "swarm unlock",
    "swarm unlock-key",
    "swarm unlock-key --quiet",
    "swarm unlock-key --rotate",
    "swarm update --autolock",
)
def test_a_locked_swarm_waits_for_its_key(swarm: Cli, own: Engine) -> None:
    assert "no unlock key is set" in swarm("swarm", "unlock-key", code=1).err
    assert "swarm is not locked" in swarm("swarm", "unlock", code=1).err
    network = swarm.out("network", "create", "-d", "overlay", "--attachable", "red")
    swarm("run", "--rm", "--network", "red", "busybox", "true")  # so that it is on this host too
    first = re.search(r"SWMKEY-1-\S+", swarm.out("swarm", "update", "--autolock"))
    assert first
    assert first[0] in swarm.out("swarm", "unlock-key")
    key = swarm.out("swarm", "unlock-key", "--rotate", "--quiet")
    assert key != first[0]
    own.restart()
    assert state(own) == "locked"
    for command in (
        ("node", "ls"),
        ("swarm", "ca"),
        ("network", "create", "-d", "overlay", "blue"),
        ("network", "rm", "red"),
    ):
        assert "needs to be unlocked" in swarm(*command, code=1).err
    for wrong in (first[0], "SWMKEY-1-short"):
        assert "key" in swarm("swarm", "unlock", code=1, stdin=wrong.encode()).err
    assert state(own) == "locked"
    swarm("swarm", "unlock", stdin=key.encode())
    assert state(own) == "active" and own.api("GET", "/networks/red").json["Id"] == network
    swarm("swarm", "update", "--autolock=false")
    own.restart()
    assert state(own) == "active"


# --- nodes


@covers(
    "node ls", "node ls --quiet", "node ls --filter", "node ls --format", "node inspect", "node inspect --pretty",
    "node inspect --format",
)  # fmt: skip
def test_nodes_are_shown(swarm: Cli, own: Engine) -> None:
    (node,) = own.api("GET", "/nodes").json
    id, name = node["ID"], node["Description"]["Hostname"]
    assert swarm.out("node", "ls", "--quiet") == id
    header, line = swarm.out("node", "ls").splitlines()
    assert header.split()[:3] == ["ID", "HOSTNAME", "STATUS"]
    assert line.split()[:6] == [id, "*", name, "Ready", "Active", "Leader"]
    assert swarm.out("node", "ls", "--format", "{{.ID}} {{.Self}} {{.TLSStatus}}") == f"{id} true Ready"
    for good in ("role=manager", f"id={id[:5]}", f"name={name}", "membership=accepted"):
        assert swarm.out("node", "ls", "-q", "--filter", good) == id, good
    for bad in ("role=worker", "id=x", "name=x", "node.label=x", "label=x", "membership=pending"):
        assert swarm.out("node", "ls", "-q", "--filter", bad) == "", bad
    assert "invalid" in swarm("node", "ls", "--filter", "role=king", code=1).err
    for reference in ("self", id, name, id[:6]):
        assert swarm.out("node", "inspect", "--format", "{{.ID}}", reference) == id
    pretty = swarm.out("node", "inspect", "--pretty", "self")
    assert re.search(r"Availability:\s+Active", pretty) and "BEGIN CERTIFICATE" in pretty
    assert "node nosuch not found" in swarm("node", "inspect", "nosuch", code=1).err.lower()


@covers(
    "node update", "node update --availability", "node update --label-add", "node update --label-rm",
    "node update --role", "node promote", "node demote", "node rm", "node rm --force",
)  # fmt: skip
def test_nodes_are_changed(swarm: Cli, own: Engine) -> None:
    (node,) = own.api("GET", "/nodes").json
    id = node["ID"]
    swarm("node", "update", "--availability", "pause", "--label-add", "a=b", "--label-add", "c", id)
    spec = own.api("GET", f"/nodes/{id}").json["Spec"]
    assert spec == {"Labels": {"a": "b", "c": ""}, "Role": "manager", "Availability": "pause"}
    assert swarm.out("node", "ls", "-q", "--filter", "node.label=a=b") == id
    swarm("node", "update", "--label-rm", "c", id)
    assert own.api("GET", f"/nodes/{id}").json["Spec"]["Labels"] == {"a": "b"}
    assert "already a manager" in swarm.out("node", "promote", id)
    for command, text in (
        (("node", "demote", id), "demote the last manager"),
        (("node", "update", "--role", "worker", id), "demote the last manager"),
        (("node", "update", "--role", "king", id), "invalid Role"),
        (("node", "update", "--availability", "on", id), "invalid Availability"),
        (("node", "update", "--label-rm", "x", id), "doesn't exist in node's labels"),
        (("node", "rm", id), "must be demoted to worker"),
        (("node", "rm", "--force", id), "must be demoted to worker"),
    ):
        assert text in swarm(*command, code=1).err, command
    query = f"since=1&until={time.time():.6f}&filters=" + '{"type":["node"]}'
    events = [json.loads(line) for line in own.api("GET", f"/events?{query}").body.splitlines()]
    mine = [e for e in events if e["Actor"]["ID"] == id]
    assert [e["Action"] for e in mine][:2] == ["create", "update"] and mine[1]["scope"] == "swarm"
    assert mine[1]["Actor"]["Attributes"]["availability.new"] == "pause"


# --- its networks


def fetched(cli: Cli, network: str, address: str) -> str:
    request = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 | grep hello"
    command = f"for i in $(seq 50); do {request} && exit 0; usleep 100000; done; exit 1"
    return cli("run", "--rm", "--network", network, "busybox", "sh", "-c", command, code=None).out.strip()


def closed(cli: Cli, network: str, address: str) -> bool:
    """Whether nothing is got from there. Ask it where `fetched` has got something from the same server."""
    command = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 80 | grep hello"
    return cli("run", "--rm", "--network", network, "busybox", "sh", "-c", command, code=None).out == ""


def test_containers_on_an_overlay_network_reach_each_other_and_nobody_else(swarm: Cli, own: Engine) -> None:
    for name in ("red", "blue"):
        swarm("network", "create", "-d", "overlay", "--attachable", name)
    swarm("run", "-d", "--name", "web", "--network", "red", "busybox", "sh", "-c", SERVER)
    address = own.inspect("web")["NetworkSettings"]["Networks"]["red"]["IPAddress"]
    assert fetched(swarm, "red", "web") == "hello"
    assert closed(swarm, "blue", address)
    assert own.network is not None
    # Neither the host nor the network by which it goes out is a way to it.
    reached = own.network.run(
        "sh", "-c", f"ip route add {address}/32 dev lo; nc -w 1 {address} 80 </dev/null", check=False
    )
    assert "hello" not in reached
    own.network.run("ip", "route", "del", f"{address}/32", check=False)
    out = own.api("GET", "/networks/docker_gwbridge").json["Containers"]
    (gateway,) = (c["IPv4Address"].partition("/")[0] for c in out.values())
    assert closed(swarm, "blue", gateway)
    shown = own.api("GET", "/networks/red").json
    assert [c["IPv4Address"].partition("/")[0] for c in shown["Containers"].values()] == [address]
    assert (shown["Scope"], shown["Driver"], shown["IPAM"]["Config"][0]["Gateway"]) == ("swarm", "overlay", "10.0.1.1")


def test_what_is_on_an_overlay_network_goes_out_and_publishes_by_the_gateways_bridge(swarm: Cli, own: Engine) -> None:
    swarm("network", "create", "-d", "overlay", "--attachable", "red")
    swarm("network", "create", "-d", "overlay", "--attachable", "--internal", "blue")
    swarm("run", "-d", "--name", "web", "--network", "red", "-p", "8080:80", "busybox", "sh", "-c", SERVER)
    assert own.network is not None
    served = lambda: "hello" in own.network.run("python3", "-c", PUBLISHED, check=False)  # noqa: E731
    wait_for(served, "the port is served", 30)
    assert [*own.inspect("web")["NetworkSettings"]["Networks"]] == ["red"]
    route = ("run", "--rm", "busybox", "ip", "route")
    assert "default via" in swarm.out(*route[:2], "--network", "red", *route[2:])
    assert "default" not in swarm.out(*route[:2], "--network", "blue", *route[2:])
    assert own.api("GET", "/networks/docker_gwbridge").json["Containers"] != {}
    # One that has another way out needs none of it.
    swarm("network", "connect", "bridge", "web")
    assert own.api("GET", "/networks/docker_gwbridge").json["Containers"] == {} and served()
    swarm("network", "disconnect", "red", "web")
    assert own.api("GET", "/networks/docker_gwbridge").json["Containers"] == {}
    swarm("network", "connect", "red", "web")
    assert own.api("GET", "/networks/docker_gwbridge").json["Containers"] == {}
    assert fetched(swarm, "red", "web") == "hello"


def test_what_cannot_be_done_with_a_swarms_network(swarm: Cli, own: Engine) -> None:
    swarm("network", "create", "-d", "overlay", "red")
    swarm("network", "create", "blue")
    for command, text in (
        (("run", "--rm", "--network", "red", "busybox", "true"), "not manually attachable"),
        (("run", "--rm", "--network", "ingress", "busybox", "true"), "not manually attachable"),
        (("network", "create", "red"), "network with name red already exists"),
        (("network", "create", "-d", "overlay", "blue"), "network with name blue already exists"),
        (("network", "create", "-d", "overlay", "--subnet", "10.0.1.0/24", "x"), "Pool overlaps"),
        (("network", "create", "-d", "overlay", "--scope", "local", "x"), "cannot be of scope local"),
        (("network", "create", "-d", "overlay", "--ingress", "x"), "already present"),
    ):
        result = swarm(*command, code=None)
        assert result.code != 0 and text in result.err, result
    swarm("network", "create", "-d", "overlay", "--attachable", "green")
    swarm("run", "-d", "--name", "box", "--network", "green", "busybox", "sleep", "1000")
    assert "active endpoints" in swarm("network", "rm", "green", code=1).err
    assert set(swarm.out("network", "prune", "-f").split()[2:]) >= {"red", "blue"}
    left = {n["Name"] for n in own.api("GET", "/networks").json}
    assert {"green", "ingress"} <= left and not left & {"red", "blue"}
    swarm("rm", "-f", "box")
    swarm("network", "rm", "green")
    question = swarm("network", "rm", "ingress", stdin=b"n\n", code=None).out
    assert "routing-mesh" in question and own.api("GET", "/networks/ingress").status == 200
    swarm("network", "rm", "ingress", stdin=b"y\n")
    swarm("network", "create", "-d", "overlay", "--ingress", "mesh")
    assert own.api("GET", "/networks/mesh").json["Ingress"] is True
    assert own.api("GET", "/networks/mesh?scope=swarm").status == 200
    assert own.api("GET", "/networks/mesh?scope=local").status == 404
    assert own.api("GET", "/networks/bridge?scope=swarm").status == 404


# --- what outlives what


@pytest.mark.parametrize("victims", [("rorquald",), ("etcd",), ("rorquald", "etcd"), ("rorquald", "containerd")])
def test_the_swarm_outlives_its_processes(ours: Cli, own: Engine, victims: tuple[str, ...]) -> None:
    ours("swarm", "init", "--advertise-addr", ADDRESS)
    before = own.api("GET", "/swarm").json
    ours("network", "create", "-d", "overlay", "--attachable", "red")
    ours("run", "-d", "--name", "web", "--network", "red", "-p", "8080:80", "busybox", "sh", "-c", SERVER)
    assert fetched(ours, "red", "web") == "hello"
    for victim in victims:
        if victim == "etcd":
            kill_etcd(own)
        else:
            own.kill(victim)
    if "rorquald" in victims:
        own.start()
    assert own.api("GET", "/swarm").json == before
    assert ours.out("network", "create", "-d", "overlay", "--attachable", "blue")
    assert fetched(ours, "red", "web") == "hello"
    assert own.network is not None and "hello" in own.network.run("python3", "-c", PUBLISHED, check=False)
    (id,) = ours.out("node", "ls", "-q").split()
    assert id == own.api("GET", "/info").json["Swarm"]["NodeID"]
    wait_for(lambda: len(etcd(own)) == 1, "there is one etcd", 20)


def test_an_orderly_stop_ends_etcd_too(ours: Cli, own: Engine) -> None:
    ours("swarm", "init", "--advertise-addr", ADDRESS)
    assert own.daemon is not None and etcd(own)
    own.daemon.send_signal(signal.SIGTERM)
    own.daemon.wait(30)
    assert not etcd(own)
    own.start()
    assert state(own) == "active"


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("keys.json", "keys.json is damaged"),
        ("node.json", "invalid JSON"),
        ("etcd/data", "etcd has nothing of this node's swarm"),
    ],
)
def test_a_swarm_that_cannot_be_had_does_not_keep_the_engine_from_running(
    ours: Cli, own: Engine, what: str, text: str
) -> None:
    ours("swarm", "init", "--advertise-addr", ADDRESS)
    own.daemon.terminate()  # type: ignore[union-attr]
    own.daemon.wait(30)  # type: ignore[union-attr]
    path = own.data / "swarm" / what
    aside = path.rename(own.data / "aside")
    if aside.is_file():
        path.write_text("{")
    own.start()
    assert state(own) == "error" and text in own.api("GET", "/info").json["Swarm"]["Error"]
    assert text in ours("node", "ls", code=1).err
    assert "already part of a swarm" in ours("swarm", "init", "--advertise-addr", ADDRESS, code=1).err
    assert ours.out("run", "--rm", "busybox", "echo", "works") == "works"
    own.daemon.terminate()  # type: ignore[union-attr]
    own.daemon.wait(30)  # type: ignore[union-attr]
    if path.is_dir():
        shutil.rmtree(path)
    aside.rename(path)
    own.start()
    assert state(own) == "active"


@pytest.mark.parametrize("left", ["init", "leave"])
def test_what_was_cut_short_is_swept_at_the_next_start(ours: Cli, own: Engine, left: str) -> None:
    """`init` writes node.json last, `leave` removes it first: without it the rest is nobody's."""
    ours("swarm", "init", "--advertise-addr", ADDRESS)
    own.kill("rorquald")
    (own.data / "swarm/node.json").unlink()
    assert etcd(own)
    own.start()
    assert state(own) == "inactive" and not etcd(own) and not (own.data / "swarm").exists()
    if left == "init":
        ours("swarm", "init", "--advertise-addr", ADDRESS)
        assert state(own) == "active"


def test_etcds_files_tell_nothing(ours: Cli, own: Engine) -> None:
    ours("swarm", "init", "--advertise-addr", ADDRESS, "--autolock")
    key = ours.out("swarm", "unlock-key", "-q")
    secrets = [token(ours, role).encode() for role in ("worker", "manager")] + [key.encode(), b"PRIVATE KEY"]
    files = [path for path in (own.data / "swarm").rglob("*") if path.is_file()]
    assert any(path.name == "db" for path in files) and any(path.suffix == ".wal" for path in files)
    for path in files:
        content = path.read_bytes()
        assert [secret for secret in secrets if secret in content] == [], path
    assert (own.data / "swarm").stat().st_mode & 0o777 == 0o700
