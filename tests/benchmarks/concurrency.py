"""32 clients that start `run --rm` at once, against 32 runs one after the other.

python tests/benchmarks/concurrency.py [--clients 32] [--rounds 3] [--peer dockerd]
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.engine import Cli, Engine
from support.peer import Dockerd


def run_once(cli: Cli) -> float:
    began = time.perf_counter()
    cli("run", "--rm", "busybox", "true")
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", choices=("dockerd",))
    options = parser.parse_args()
    with (Dockerd if options.peer else Engine)() as engine:
        cli = engine.docker if options.peer else engine.rorqual
        run_once(cli)
        for _ in range(options.rounds):
            began = time.perf_counter()
            for _ in range(options.clients):
                run_once(cli)
            sequential = time.perf_counter() - began
            began = time.perf_counter()
            with ThreadPoolExecutor(options.clients) as pool:
                times = list(pool.map(run_once, [cli] * options.clients))
            together = time.perf_counter() - began
            print(
                f"{options.clients} runs: {sequential:6.2f} s in a row, {together:6.2f} s at once "
                f"(ratio {together / sequential:.2f}), median {statistics.median(times):.2f} s, "
                f"slowest {max(times):.2f} s",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
