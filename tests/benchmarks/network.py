"""Networks beside a stock dockerd, the engines taking turns, each in a network namespace of its own.

    python tests/benchmarks/network.py [--runs 15] [--seconds 4]

create+rm of a network (API), `run --rm` on a user-defined network, throughput between two containers and through a
published port (iperf3), connections a second through a published port from another host and from loopback.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.engine import Engine
from support.netns import NetworkNamespace
from support.peer import Dockerd

OUTSIDE, HOST = "198.18.0.2", "198.18.0.1"


class Side:
    """One engine with a neighbour host, and two containers: `server` (published) and `client`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        assert engine.network is not None
        self.host = engine.network
        self.neighbour = NetworkNamespace("rqbench")
        self.host.join(self.neighbour, f"{HOST}/24", f"{OUTSIDE}/24")
        self.processes: list[subprocess.Popen[bytes]] = []
        docker = engine.docker
        docker("network", "create", "bench")
        for name in ("server", "client"):
            ports = ("-p", "5201:5201", "-p", "8080:8080") if name == "server" else ()
            docker("run", "-d", "--name", name, "--network", "bench", *ports, "busybox", "sleep", "3600")
        self.address = engine.inspect("server")["NetworkSettings"]["Networks"]["bench"]["IPAddress"]
        self._in("server", "iperf3", "-s")
        self._in("server", sys.executable, "-c", _ACCEPT)
        time.sleep(1)

    def namespace(self, name: str) -> str:
        return f"--net=/proc/{self.engine.inspect(name)['State']['Pid']}/ns/net"

    def _in(self, container: str, *argv: str) -> None:
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes.append(subprocess.Popen(["nsenter", self.namespace(container), *argv], **quiet))

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.neighbour.close()


_ACCEPT = """
import socket
listener = socket.create_server(("", 8080), backlog=4096)
while True:
    connection, _ = listener.accept()
    connection.close()
"""


def throughput(prefix: list[str], address: str, seconds: int) -> float:
    """Gigabits a second."""
    argv = [*prefix, "iperf3", "-J", "-c", address, "-t", str(seconds)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=seconds + 30)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def connections(space: NetworkNamespace, address: str, seconds: float) -> float:
    """Connections made a second by one client after the other."""
    count = [0]

    def work() -> None:
        with space.entered():
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                with socket.create_connection((address, 8080), timeout=5) as sock:
                    sock.recv(1)
                count[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return count[0] / seconds


def timed(action: Any) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def make_and_remove(engine: Engine) -> None:
    ident = engine.api("POST", "/networks/create", {"Name": "short"}).json["Id"]
    assert engine.api("DELETE", f"/networks/{ident}").status == 204


def round_of(side: Side, seconds: int, runs: int, found: dict[str, list[float]]) -> None:
    engine, host = side.engine, side.host
    argv = ("run", "--rm", "--network", "bench", "busybox", "true")
    for _ in range(runs):
        found["network create + rm, ms"].append(timed(lambda: make_and_remove(engine)))
        found["run --rm --network bench, ms"].append(timed(lambda: engine.docker(*argv)))
    inside = ["nsenter", side.namespace("client")]
    outside = ["nsenter", f"--net={side.neighbour.path}"]
    local = ["nsenter", f"--net={host.path}"]
    found["container to container, Gbit/s"].append(throughput(inside, side.address, seconds))
    found["published port from a neighbour, Gbit/s"].append(throughput(outside, HOST, seconds))
    found["published port from loopback, Gbit/s"].append(throughput(local, "127.0.0.1", seconds))
    found["connections from a neighbour, 1/s"].append(connections(side.neighbour, HOST, seconds / 2))
    found["connections from loopback, 1/s"].append(connections(host, "127.0.0.1", seconds / 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {"dockerd": defaultdict(list), "rorqual": defaultdict(list)}
    with Dockerd() as peer, Engine() as ours:
        sides = {"dockerd": Side(peer), "rorqual": Side(ours)}
        try:
            for number in range(options.rounds):
                for name, side in list(sides.items())[:: -1 if number % 2 else 1]:
                    round_of(side, options.seconds, options.runs // options.rounds, found[name])
        finally:
            for side in sides.values():
                side.close()
    print(f"| {'what':42} | dockerd | Rorqual | share, and the quarter's bounds of it over pairs |\n|---|---|---|---|")
    for what, theirs in found["dockerd"].items():
        first, second = statistics.median(theirs), statistics.median(found["rorqual"][what])
        low, middle, high = statistics.quantiles(
            [ours / other for ours, other in zip(found["rorqual"][what], theirs, strict=True)]
        )
        print(f"| {what:42} | {first:7.2f} | {second:7.2f} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
