"""Images beside a stock dockerd: load, save, commit and the list of many, medians of a few runs each.

    python tests/benchmarks/images.py [runs [bytes a file [files a layer]]]

Both engines run one after the other on the same machine, each fresh, with the same archive: ten layers, 200 MB, half of
it random, in the form that dockerd 20.10 saves. With files of another size only what depends on them is measured.
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

LAYERS, FILE_BYTES, FILES = 10, 64 << 10, 320
IMAGES = 500
COMMITS = {
    "commit 200 MB": "for i in 0 1 2 3 4 5 6 7 8 9; do dd if=/dev/urandom of=/f$i bs=1M count=20 2>/dev/null; done",
    "commit of 5,000 files": "mkdir /d; i=0; while [ $i -lt 5000 ]; do echo $i > /d/$i; i=$((i+1)); done",
}


def layer(number: int, file_bytes: int, files: int) -> bytes:
    out = io.BytesIO()
    words = b"".join(b"%d words of text that repeat\n" % (i % 977) for i in range(file_bytes // 16))
    with tarfile.open(fileobj=out, mode="w") as tar:
        for n in range(files):
            entry = tarfile.TarInfo(f"data/{number}/{n}")
            content = os.urandom(file_bytes // 2) + words[: file_bytes // 2]
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def archive(path: Path, file_bytes: int, files: int) -> None:
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]}}
    names, diff_ids = [], []
    with tarfile.open(path, "w") as tar:

        def add(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        for number in range(LAYERS):
            data = layer(number, file_bytes, files)
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


def measure(engine: Engine, path: Path, runs: int, *, lists: bool) -> dict[str, float]:
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
    for name, write in COMMITS.items():
        docker("run", "--name", "written", "busybox", "sh", "-c", write)
        for number in range(runs):
            os.sync()
            note(name, timed(lambda n=number: docker("commit", "written", f"committed:{n}")))
            docker("rmi", f"committed:{number}")
        docker("rm", "written")
    if lists:
        _lists(engine, runs, note)
    return {name: statistics.median(values) for name, values in found.items()}


def _lists(engine: Engine, runs: int, note: Callable[[str, float], None]) -> None:
    docker = engine.docker
    docker("create", "--name", "small", "busybox", "true")
    for number in range(runs):
        note("commit of nothing", timed(lambda n=number: docker("commit", "-m", str(n), "small", f"nothing:{n}")))
    for number in range(IMAGES):
        engine.api("POST", f"/commit?container=small&repo=many&tag={number}&comment={number}")
    for _ in range(max(runs, 5)):
        note(f"images, {IMAGES}", timed(lambda: engine.api("GET", "/images/json?all=1")))
        note(f"docker images, {IMAGES}", timed(lambda: docker("images")))
    docker("rm", "small")


def main() -> None:
    given = [int(word) for word in sys.argv[1:]]
    runs, file_bytes, files = given + [3, FILE_BYTES, FILES][len(given) :]
    with tempfile.TemporaryDirectory(prefix="rq-bench-") as directory:
        path = Path(directory) / "bench.tar"
        archive(path, file_bytes, files)
        results = {}
        for kind in (Dockerd, Engine):
            with kind() as engine:
                results[kind] = measure(engine, path, runs, lists=len(given) < 2)
    print(f"| | dockerd s | rorquald s | ratio |\n|---|---|---|---|  ({runs} runs)")
    for name, theirs in results[Dockerd].items():
        ours = results[Engine][name]
        print(f"| {name} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
