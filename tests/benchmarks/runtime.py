"""`run` of a container with namespaces of its own: rorqual-runc, a peer, and the library in process, taking turns.

    runtime.py [--runs 20] [--peer /usr/sbin/runc]

Needs root, busybox and the peer. The bundle is what `spec` writes (without the terminal); the program is /bin/true.
Prints medians and the best in milliseconds, and each median as a share of the peer's. CPU time counts the children's.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rorqual.runc import container as runc

OURS = Path(sys.executable).parent / "rorqual-runc"


def make_bundle(directory: Path) -> bytes:
    """Its config.json."""
    for name in ("bin", "proc", "sys", "dev"):
        (directory / "rootfs" / name).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", directory / "rootfs/bin/busybox")
    (directory / "rootfs/bin/true").symlink_to("busybox")
    subprocess.run([OURS, "spec", "--bundle", directory], check=True)
    document = json.loads((directory / "config.json").read_text())
    document["process"].update(terminal=False, args=["true"])
    config = json.dumps(document).encode()
    (directory / "config.json").write_bytes(config)
    return config


def by_command(program: Path, bundle: Path, root: Path) -> Callable[[], None]:
    line = [str(program), "--root", str(root), "run", "--bundle", str(bundle), "bench"]

    def once() -> None:
        pid = os.posix_spawn(line[0], line, os.environ)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit(f"{program} failed")

    return once


def in_process(config: bytes, bundle: Path, root: Path) -> Callable[[], None]:
    def once() -> None:
        made = runc.create("bench", str(bundle), config, root=str(root))
        made.start()
        os.waitpid(made.pid, 0)
        made.delete()

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--peer", type=Path, default=Path("/usr/sbin/runc"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bundle = Path(directory) / "bundle"
        config = make_bundle(bundle)
        runc.preload()
        contenders = {
            f"{options.peer} run": by_command(options.peer, bundle, Path(directory) / "peer"),
            "rorqual-runc run": by_command(OURS, bundle, Path(directory) / "ours"),
            "in process": in_process(config, bundle, Path(directory) / "library"),
        }
        walls: dict[str, list[float]] = {name: [] for name in contenders}
        cpus: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(options.runs + 1):
            for name, once in contenders.items():
                began, used = time.perf_counter(), sum(os.times()[:4])
                once()
                if turn:  # the first fills caches
                    walls[name].append((time.perf_counter() - began) * 1e3)
                    cpus[name].append((sum(os.times()[:4]) - used) * 1e3)
    peer = statistics.median(next(iter(walls.values())))
    for name, times in walls.items():
        median = statistics.median(times)
        print(
            f"{name:24} median {median:6.1f} ms  best {min(times):6.1f} ms  cpu {statistics.mean(cpus[name]):6.1f} ms"
            f"  share {median / peer:.2f}"
        )


if __name__ == "__main__":
    main()
