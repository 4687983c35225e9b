"""stats and top, links and attach's log: through both command lines and the API."""

import json
import socket
import time

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

from rorqual.linux.cgroups import is_unified

pytestmark = pytest.mark.root


def test_stats_tell_load_memory_network_and_processes(cli: Cli) -> None:
    script = "(while :; do :; done) & dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; wait"
    cli("run", "-d", "--name", "busy", "-m", "128m", "busybox", "sh", "-c", script)
    wait_for(lambda: "20.0M" in cli.out("exec", "busy", "ls", "-lh", "/dev/shm"), "written")
    line = json.loads(cli.out("stats", "--no-stream", "--format", "json", "busy"))
    assert line["Name"] == "busy" and float(line["CPUPerc"].rstrip("%")) > 5
    assert line["MemUsage"].endswith("128MiB") and float(line["MemUsage"].split("MiB")[0]) >= 20
    assert int(line["PIDs"]) >= 2
    assert "busy" in cli.out("stats", "--no-stream", "--no-trunc", "busy")


def test_a_stream_of_stats_ends_with_the_container(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "watched", "busybox", "sleep", "600")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(engine.socket))
        sock.sendall(b"GET /containers/watched/stats HTTP/1.0\r\n\r\n")
        lines = (line for line in sock.makefile("rb") if line.startswith(b"{"))
        first, second = json.loads(next(lines)), json.loads(next(lines))
        engine.docker("rm", "-f", "watched")
        list(lines)  # ends
    assert second["precpu_stats"] == first["cpu_stats"] and second["preread"] == first["read"]
    usage = first["cpu_stats"]["cpu_usage"]
    if not is_unified():
        assert len(usage["percpu_usage"]) == first["cpu_stats"]["online_cpus"] and sum(usage["percpu_usage"]) > 0
    assert first["networks"]["eth0"]["rx_bytes"] >= 0 and first["pids_stats"]["current"] == 1


def test_stats_of_a_container_that_does_not_run_are_empty(cli: Cli, engine: Engine) -> None:
    cli("create", "--name", "idle", "busybox", "true")
    told = engine.api("GET", "/containers/idle/stats?stream=0").json
    assert told["name"] == "/idle" and told["memory_stats"] == {} and told["read"] == "0001-01-01T00:00:00Z"


def test_top_takes_the_arguments_of_ps(cli: Cli) -> None:
    cli("run", "-d", "--name", "shown", "busybox", "sh", "-c", "sleep 601 & wait")
    wait_for(lambda: "sleep 601" in cli.out("top", "shown"), "the child is there")
    lines = cli.out("top", "shown", "-eo", "pid,args").splitlines()
    assert lines[0].split() == ["PID", "COMMAND"] and len(lines) == 3
    assert "is not allowed" in cli("top", "shown", "-eo", "comm=PID", code=1).err
    assert cli("top", "shown", "--bogus", code=1).err


def test_update_changes_limits_of_a_running_container(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "changed", "-m", "64m", "busybox", "sleep", "600")
    cli("update", "-m", "96m", "--cpu-shares", "300", "--pids-limit", "55", "--restart", "on-failure:2", "changed")
    host = engine.inspect("changed")["HostConfig"]
    assert (host["Memory"], host["CpuShares"], host["PidsLimit"]) == (96 << 20, 300, 55)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert "update the memoryswap at the same time" in cli("update", "-m", "1g", "changed", code=1).err


def test_links_give_names_addresses_and_variables_until_removed(engine: Engine) -> None:
    docker = engine.docker
    docker("run", "-d", "--name", "store", "--expose", "5432", "-e", "MODE=fast", "busybox", "sleep", "600")
    docker("run", "-d", "--name", "web", "--link", "store:db", "busybox", "sleep", "600")
    address = engine.inspect("store")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    env = docker.out("exec", "web", "cat", "/proc/1/environ").split("\0")
    assert f"DB_PORT_5432_TCP=tcp://{address}:5432" in env and "DB_ENV_MODE=fast" in env and "DB_NAME=/web/db" in env
    assert docker.out("exec", "web", "grep", "-w", "db", "/etc/hosts").startswith(address)
    assert engine.inspect("web")["HostConfig"]["Links"] == ["/store:/web/db"]
    docker("rename", "store", "renamed")
    assert engine.inspect("web")["HostConfig"]["Links"] == ["/renamed:/web/db"]
    names = {name for c in engine.api("GET", "/containers/json").json for name in c["Names"]}
    assert names == {"/web", "/renamed", "/web/db"}
    docker("rm", "--link", "/web/db")
    assert engine.inspect("web")["HostConfig"]["Links"] is None
    assert "could not get container for none" in docker("create", "--link", "none:x", "busybox", code=1).err


def test_attach_for_the_log_alone_answers_it_and_ends(engine: Engine) -> None:
    engine.docker("run", "--name", "ended", "busybox", "sh", "-c", "echo out; echo err >&2")
    answer = engine.api("POST", "/containers/ended/attach?logs=1&stdout=1&stderr=1")
    assert answer.body == b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"
    engine.docker("run", "-d", "--name", "runs", "busybox", "sh", "-c", "echo out; sleep 600")
    wait_for(lambda: engine.docker.out("logs", "runs") == "out", "it has written")
    assert engine.api("POST", "/containers/runs/attach?logs=1&stdout=1").body == b"\x01\0\0\0\0\0\0\x04out\n"


def test_the_log_does_not_come_in_one_piece_with_the_answers_head(engine: Engine) -> None:
    """docker-py reads the head through a buffer, then from the socket itself."""
    engine.docker("run", "--name", "ended", "busybox", "echo", "logged")
    request = b"POST /containers/ended/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    alone = False
    for _ in range(3):  # the engine waits a tenth of a second for a client, which a busy machine may exceed
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(engine.socket))
            sock.sendall(request)
            time.sleep(0.03)  # a client that is late
            head, _, rest = sock.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert rest + sock.makefile("rb").read() == b"\x01\0\0\0\0\0\0\x07logged\n"
            alone |= not rest
    assert alone
