"""Images beside a stock dockerd: load, save, commit and the list of many, medians of a few runs each.

    python tests/benchmarks/images.py [runs]

Both engines run one after the other on the same machine, each fresh, with the same archive: ten layers, 200 MB, half of
it random, in the form that dockerd 20.10 saves.
"""

import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.engine import Engine  # noqa: E402
from support.peer import Dockerd  # noqa: E402

LAYERS, LAYER_BYTES, FILE_BYTES = 10, 20 << 20, 64 << 10
IMAGES = 500


def layer(number: int) -> bytes:
    out = io.BytesIO()
    words = b"".join(b"%d words of text that repeat\n" % (i % 977) for i in range(4000))
    with tarfile.open(fileobj=out, mode="w") as tar:
        for n in range(LAYER_BYTES // FILE_BYTES):
            entry = tarfile.TarInfo(f"data/{number}/{n}")
            content = os.urandom(FILE_BYTES // 2) + words[: FILE_BYTES // 2]
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def archive(path: Path) -> None:
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]}}
    names, diff_ids = [], []
    with tarfile.open(path, "w") as tar:

        def add(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        for number in range(LAYERS):
            data = layer(number)
            name = f"{hashlib.sha256(data).hexdigest()}/layer.tar"
            add(name, data)
            names.append(name)
            diff_ids.append(f"sha256:{hashlib.sha256(data).hexdigest()}")
        raw = json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
        add(f"{hashlib.sha256(raw).hexdigest()}.json", raw)
        listed = [{"Config": f"{hashlib.sha256(raw).hexdigest()}.json", "RepoTags": ["bench:1"], "Layers": names}]
        add("manifest.json", json.dumps(listed).encode())


def timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def measure(engine: Engine, path: Path, runs: int) -> dict[str, float]:
    docker = engine.docker
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    for _ in range(runs):
        os.sync()
        note("load", timed(lambda: docker("load", "-q", "-i", str(path))))
        # Into a pipe and away: not the disk's speed.
        save = partial(subprocess.run, [*docker.argv, "save", "bench:1"], env=docker.environment, check=True)
        with open(os.devnull, "wb") as sink:
            note("save", timed(partial(save, stdout=sink)))
        docker("rmi", "bench:1")
    write = "i=0; while [ $i -lt 10 ]; do dd if=/dev/urandom of=/f$i bs=1M count=20 2>/dev/null; i=$((i+1)); done"
    docker("run", "--name", "written", "busybox", "sh", "-c", write)
    for number in range(runs):
        os.sync()
        note("commit 200 MB", timed(lambda n=number: docker("commit", "written", f"committed:{n}")))
        docker("rmi", f"committed:{number}")
    docker("rm", "written")
    docker("create", "--name", "small", "busybox", "true")
    for number in range(runs):
        note("commit of nothing", timed(lambda n=number: docker("commit", "-m", str(n), "small", f"nothing:{n}")))
    for number in range(IMAGES):
        engine.api("POST", f"/commit?container=small&repo=many&tag={number}&comment={number}")
    for _ in range(max(runs, 5)):
        note(f"images, {IMAGES}", timed(lambda: engine.api("GET", "/images/json?all=1")))
        note(f"docker images, {IMAGES}", timed(lambda: docker("images")))
    docker("rm", "small")
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as directory:
        path = Path(directory) / "bench.tar"
        archive(path)
        results = {}
        for kind in (Dockerd, Engine):
            with kind() as engine:
                results[kind] = measure(engine, path, runs)
    print(f"| | dockerd s | rorquald s | ratio |\n|---|---|---|---|  ({runs} runs)")
    for name, theirs in results[Dockerd].items():
        ours = results[Engine][name]
        print(f"| {name} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
