"""SIGKILL of the daemon or containerd at random moments of a pull, push, load, commit and prune: a retry succeeds, the
store is sound, nothing is lost of what was there, and nothing stays behind of what was cut short."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.busybox import rootfs_tar
from support.engine import Engine
from support.image import layer_tar
from support.processes import wait_for
from support.registry import Registry, push_image

pytestmark = pytest.mark.root

# make test-crash asks for 20.
ROUNDS = int(os.environ.get("RORQUAL_TEST_ROUNDS", "3"))


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    with Engine(own_network=False) as engine:
        yield engine


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        layers = [rootfs_tar(), *(layer_tar({f"f{n}": os.urandom(4_000_000)}) for n in range(3))]
        push_image(registry, "crash", layers, {"Cmd": ["cat", "/bin/busybox"]}, tag="1")
        yield registry


def back(engine: Engine) -> None:
    if not engine.pids("rorquald"):
        engine.start()
    wait_for(lambda: engine.pids("containerd"), "containerd was started again")
    wait_for(lambda: engine.api("GET", "/images/json").status == 200, "the engine answers")


def files(engine: Engine) -> set[str]:
    """Blobs and layers in the store."""
    blobs, layers = engine.data / "content/blobs/sha256", engine.data / "snapshots/overlayfs"
    return {path.name for top in (blobs, layers) for path in top.iterdir()}


def crashed(engine: Engine, victim: str, delay_s: float, *arguments: str) -> None:
    """The command line is running when `victim` dies."""
    with engine.docker.started(*arguments) as client:
        time.sleep(delay_s)
        engine.kill(victim)
        client.communicate(timeout=60)
    back(engine)


@pytest.mark.parametrize("operation", ["pull", "push", "load", "commit", "prune"])
def test_a_retry_after_a_kill_succeeds_and_nothing_stays(
    own: Engine, registry: Registry, operation: str, tmp_path: Path
) -> None:
    docker = own.docker
    name = f"{registry.address}/crash:1"
    seed = random.randrange(1 << 30)
    chosen = random.Random(seed)
    docker("pull", "-q", name)
    docker("save", "-o", str(tmp_path / "image.tar"), name)
    docker("rmi", name)
    wait_for(lambda: not _has(own, name), "removed")
    before = files(own)
    for round_ in range(ROUNDS):
        victim = chosen.choice(["rorquald", "containerd"])
        delay_s = chosen.uniform(0, 0.25)
        told = f"seed {seed}, round {round_}: {victim} killed after {delay_s:.3f} s of {operation}"
        command = {
            "pull": ["pull", "-q", name],
            "load": ["load", "-q", "-i", str(tmp_path / "image.tar")],
            "push": ["push", "-q", f"{registry.address}/pushed/{seed}-{round_}:1"],
            "commit": ["commit", "writer", "committed:1"],
            "prune": ["image", "prune", "-af"],
        }[operation]
        if operation == "prune":
            docker("create", "--name", "keeper", "busybox", "true")
        if operation in ("push", "prune"):
            docker("load", "-q", "-i", str(tmp_path / "image.tar"))
        if operation == "push":
            docker("tag", name, command[-1])
        if operation == "commit":
            script = "dd if=/dev/urandom of=/f bs=1M count=8 2>/dev/null"
            docker("run", "--name", "writer", "busybox", "sh", "-c", script)
        crashed(own, victim, delay_s, *command)
        assert docker.out("run", "--rm", "busybox", "echo", "alive") == "alive", told
        assert own.rorqual("system", "check").code == 0, told
        docker(*command)
        if operation == "prune":
            # What the killed one had removed and what it had not: all of it is gone now, but what a container uses.
            assert docker.out("images", "-q", name) == "" and docker.out("images", "-q", "busybox"), told
            docker("rm", "keeper")
            wait_for(lambda: files(own) <= before, f"{told}: {sorted(files(own) - before)} stay", 20)
            continue
        made = {"commit": "committed:1", "push": command[-1]}.get(operation, name)
        assert docker.out("run", "--rm", made, "echo", "whole") == "whole", told
        docker("save", "-o", str(tmp_path / "whole.tar"), made)
        if operation == "commit":
            docker("rm", "writer")
        for image in {made, name} if operation == "push" else {made}:
            docker("rmi", image)
        docker("image", "prune", "-f")
        wait_for(lambda: files(own) <= before, f"{told}: {sorted(files(own) - before)} stay", 20)


def _has(engine: Engine, name: str) -> bool:
    return engine.api("GET", f"/images/{name}/json").status == 200
