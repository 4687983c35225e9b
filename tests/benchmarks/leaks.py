"""A thousand `run --rm` in a row, then 50 at once from 16 clients: what the engine holds before and after.

    python tests/benchmarks/leaks.py [--runs 1000] [--together 50] [--clients 16]

Exit status 1 when anything is held afterwards that was not before.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.engine import Engine, Held


def memory_kib(engine: Engine) -> int:
    """The proportional set size of the engine's long-lived processes."""
    total = 0
    for name in ("rorquald", "containerd", "spawner"):
        for pid in engine.pids(name):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def settled(engine: Engine, before: Held) -> list[str]:
    """What is held beyond `before` after the engine had five seconds to give it back."""
    for _ in range(50):
        if not engine.held().more_than(before):
            return []
        time.sleep(0.1)
    return engine.held().more_than(before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--together", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    left: list[str] = []
    with Engine() as engine:
        run = ("run", "--rm", "busybox", "true")
        for _ in range(10):
            engine.rorqual(*run)
        before, memory = engine.held(), memory_kib(engine)
        began = time.perf_counter()
        for done in range(1, options.runs + 1):
            engine.rorqual(*run)
            if done % 100 == 0:
                rate = done / (time.perf_counter() - began)
                print(f"{done:6} runs, {rate:5.1f} a second, {memory_kib(engine) - memory:+6} KiB", flush=True)
        left += settled(engine, before)
        began = time.perf_counter()
        subprocess.run(
            ["xargs", "-P", str(options.clients), "-I", "{}", *engine.rorqual.argv, *run],
            input="\n".join(map(str, range(options.together))),
            text=True,
            check=True,
            env=engine.rorqual.environment,
        )
        print(f"{options.together} from {options.clients} clients: {time.perf_counter() - began:.2f} s")
        left += settled(engine, before)
        print("left behind: " + ("nothing" if not left else "\n  ".join(["", *left])))
    return bool(left)


if __name__ == "__main__":
    sys.exit(main())
