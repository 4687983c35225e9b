"""300 containers that run, with restart policies and health checks, and 5,000 that do not: idle, and after a SIGKILL.

python tests/benchmarks/scale.py [--running 300] [--stopped 5000] [--seconds 60]
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import scale
from support.engine import Engine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--running", type=int, default=300)
    parser.add_argument("--stopped", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with Engine("--bip=172.31.0.1/20") as engine:
        began = time.perf_counter()
        ids = scale.make(engine, options.running, 0)
        print(f"{options.running} made and started in {time.perf_counter() - began:.1f} s", flush=True)
        scale.all_healthy(engine, ids, 120)
        shares = scale.idle_shares(engine, options.seconds)
        print("idle, per cent of a core: " + ", ".join(f"{k} {100 * v:.2f}" for k, v in shares.items()), flush=True)
        before = scale.lives(engine, ids)
        for stopped in (0, options.stopped):
            scale.make(engine, 0, stopped)
            since = time.time()
            took = [scale.killed_and_found(engine, options.running + stopped) for _ in range(3)]
            print(
                f"with {stopped} stopped ones, found after a SIGKILL in "
                + ", ".join(f"{wall:.2f} s ({cpu:.2f} s of processor)" for wall, cpu in took),
                flush=True,
            )
            assert scale.lives(engine, ids) == before, "some were started again"
            events = [event for event in scale.told(engine, since, time.time()) if not event[1].startswith("exec_")]
            assert not events, events
        print("none restarted, no event told")
    return 0


if __name__ == "__main__":
    sys.exit(main())
