"""Where the time of one `run --rm busybox true` goes: each request of it by itself, then the whole command.

python tests/benchmarks/stages.py [--runs 30] [--peer dockerd]
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.engine import Engine
from support.peer import Dockerd


def one_run(engine: Engine, network: str, times: dict[str, list[float]]) -> None:
    def stage(name: str, method: str, path: str, body: object = None, expected: int = 204) -> object:
        began = time.perf_counter()
        answer = engine.api(method, path, body)
        times[name].append((time.perf_counter() - began) * 1000)
        assert answer.status == expected, (name, answer.status, answer.body)
        return answer.json if answer.body else None

    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
    container = stage("create", "POST", "/containers/create", body, 201)["Id"]  # type: ignore[index]
    stage("start", "POST", f"/containers/{container}/start")
    stage("wait", "POST", f"/containers/{container}/wait", expected=200)
    stage("remove", "DELETE", f"/containers/{container}")


def command(engine: Engine, name: str, argv: tuple[str, ...], times: dict[str, list[float]]) -> None:
    for client in (engine.docker, engine.rorqual):
        began = time.perf_counter()
        client(*argv)
        times[f"{client.name} {name}"].append((time.perf_counter() - began) * 1000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--peer", choices=("dockerd",))
    options = parser.parse_args()
    with (Dockerd if options.peer else Engine)() as engine:
        one_run(engine, "bridge", defaultdict(list))
        for network in ("bridge", "none"):
            times: dict[str, list[float]] = defaultdict(list)
            for _ in range(options.runs):
                one_run(engine, network, times)
                command(engine, "run --rm", ("run", "--rm", "--network", network, "busybox", "true"), times)
                command(engine, "version", ("version", "--format", "{{.Client.Version}}"), times)
            print(f"network {network}, milliseconds, {options.runs} runs")
            for name, values in times.items():
                print(f"  {name:20} median {statistics.median(values):7.1f}   best {min(values):7.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
