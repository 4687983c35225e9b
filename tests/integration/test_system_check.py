"""`system check`: silent about a good store, and each kind of damage is found."""

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


def layers(engine: Engine) -> list[Path]:
    return sorted((engine.data / "snapshots" / "overlayfs").glob("*/fs"))


def test_a_good_store_has_no_problems(engine: Engine) -> None:
    container = engine.docker.out("run", "-d", "busybox", "sh", "-c", "echo x > /file; sleep 100")
    engine.docker("commit", container, "second")
    engine.docker("rm", "-f", container)
    out = engine.rorqual("system", "check").out
    assert out.endswith("no problems\n")
    assert int(out.split()[0]) >= 6
    assert engine.rorqual("system", "check", "-q").out == ""


def test_a_blob_with_other_bytes(engine: Engine) -> None:
    digest = engine.api("GET", "/images/busybox/json").json["Id"]
    path = engine.data / "content" / "blobs" / "sha256" / digest[7:]
    good = path.read_bytes()
    os.chmod(path, 0o644)
    path.write_bytes(good[:-1] + b" ")
    try:
        assert f"blob {digest}: its bytes are those of sha256:" in engine.rorqual("system", "check", code=1).out
        path.write_bytes(good[:-1])
        assert f"{len(good) - 1} bytes instead of {len(good)}" in engine.rorqual("system", "check", code=1).out
        path.unlink()
        assert f"blob {digest}: " in engine.rorqual("system", "check", code=1).out
    finally:
        path.write_bytes(good)


def test_an_unpacked_layer_that_power_loss_has_torn(engine: Engine) -> None:
    (layer,) = layers(engine)
    shadow = layer / "etc" / "shadow"
    text = shadow.read_text()
    for damage, told in (
        (lambda: shadow.write_text(""), f'"etc/shadow": 0 bytes instead of {len(text)}'),
        (lambda: shadow.write_text("\0" * len(text)), '"etc/shadow": other bytes'),
        (shadow.unlink, '"etc/shadow": No such file or directory'),
        (shadow.mkdir, '"etc/shadow": another kind of file'),
    ):
        damage()
        out = engine.rorqual("system", "check", code=1).out
        assert out.startswith("layer overlayfs/") and told in out, out
    shadow.rmdir()
    shadow.write_text(text)
    engine.rorqual("system", "check")


def test_a_missing_layer_and_leftovers(engine: Engine) -> None:
    engine.docker("rm", engine.docker.out("create", "busybox"))
    wait_for(lambda: len(layers(engine)) == 1, "the container's layer went after the answer")
    (layer,) = layers(engine)
    hidden = layer.with_name("hidden")
    layer.rename(hidden)
    stray = engine.data / "content" / "blobs" / "sha256" / secrets.token_hex(32)
    stray.write_text("nobody's")
    try:
        out = engine.rorqual("system", "check", "-q", code=1).out
        assert f"snapshot overlayfs/{layer.parent.name} " in out and "is missing" in out
        assert f"leftover {stray}: no row knows it" in out
    finally:
        hidden.rename(layer)
    engine.restart()  # of the daemon: leftovers are containerd's
    for pid in engine.pids("containerd"):  # its workers too
        os.kill(pid, signal.SIGKILL)
    engine.rorqual("run", "--rm", "busybox", "true")
    wait_for(lambda: not stray.exists(), "the leftover is removed")
    engine.rorqual("system", "check")
