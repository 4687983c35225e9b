"""Many containers in one engine: what they cost while nothing happens, and what a kill of the daemon does to them."""

import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from support.engine import Engine
from support.processes import wait_for

_CLIENTS = 4
_POLICIES = ("always", "unless-stopped", "on-failure")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Life:
    """What changes when a container is started again."""

    pid: int
    started_at: str
    restarts: int


def make(engine: Engine, running: int, stopped: int, *, health_interval_s: float = 30) -> list[str]:
    """The IDs of the running ones, each with a restart policy, a network and a health check; the others only exist."""

    def one(n: int) -> str:
        body: dict[str, Any] = {"Image": "busybox", "Cmd": ["sleep", "100000"]}
        if n < running:
            interval_ns = int(health_interval_s * 1e9)
            body["Healthcheck"] = {"Test": ["CMD", "true"], "Interval": interval_ns, "Timeout": 10**10, "Retries": 3}
            body["HostConfig"] = {"RestartPolicy": {"Name": _POLICIES[n % len(_POLICIES)]}}
        made = engine.api("POST", "/containers/create", body)
        assert made.status == 201, made.body
        if n < running:
            started = engine.api("POST", f"/containers/{made.json['Id']}/start")
            assert started.status == 204, started.body
        return str(made.json["Id"])

    with ThreadPoolExecutor(_CLIENTS) as pool:
        return list(pool.map(one, range(running + stopped)))[:running]


def all_healthy(engine: Engine, ids: list[str], timeout_s: float) -> None:
    """Wait until every check has passed once."""
    found = "/containers/json?filters=%7B%22health%22%3A%5B%22healthy%22%5D%7D"
    wait_for(lambda: len(engine.api("GET", found).json) == len(ids), "all are healthy", timeout_s)


def lives(engine: Engine, ids: Iterable[str]) -> dict[str, Life]:
    """Of each container that runs."""
    found = {}
    for id in ids:
        state = engine.inspect(id)
        if state["State"]["Running"]:
            found[id] = Life(state["State"]["Pid"], state["State"]["StartedAt"], state["RestartCount"])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of processor time, those of children that ended with them."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            total += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
    return total * _TICK_S


_IDLE_WORKER_S = 4  # rorqual-containerd ends one that nobody needs; all that it did counts as its parent's then


def idle_shares(engine: Engine, seconds: float) -> dict[str, float]:
    """Of one core, by kind of process, in so many seconds of nothing."""
    time.sleep(_IDLE_WORKER_S)
    pids = {name: engine.pids(name) for name in ("rorquald", "containerd", "shim")}
    before = {name: cpu_s(found) for name, found in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {name: (cpu_s(found) - before[name]) / took for name, found in pids.items()}


def killed_and_found(engine: Engine, count: int) -> tuple[float, float]:
    """Kill rorquald and start it again; (seconds, its processor's) until `count` containers are listed."""
    engine.kill("rorquald")
    began = time.monotonic()
    engine.start()
    listed = engine.api("GET", "/containers/json?all=1").json
    took = time.monotonic() - began
    assert len(listed) == count, f"{len(listed)} of {count} containers are there"
    return took, cpu_s(engine.pids("rorquald"))


def told(engine: Engine, since: float, until: float) -> list[tuple[str, str]]:
    """(container, action) of the events between two times, in seconds since 1970."""
    answer = engine.api("GET", f"/events?since={since:.6f}&until={until:.6f}")
    events = [json.loads(line) for line in answer.body.splitlines()]
    return [(event["Actor"]["ID"], event["Action"]) for event in events if event["Type"] == "container"]
