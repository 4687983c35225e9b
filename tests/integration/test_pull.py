"""Pulls through the whole engine, from Debian's docker-registry inside the engine's network."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Cli, Engine
from support.image import busybox_layers, layer_tar
from support.registry import PASSWORD, USERNAME, Registry, push_image

pytestmark = pytest.mark.root


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[Registry]:
    with engine.inside(), Registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture(autouse=True)
def pulled_images_are_removed(engine: Engine) -> Iterator[None]:
    yield
    for image in engine.api("GET", "/images/json").json:
        for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
            if name.startswith("127.0.0.1:"):
                engine.api("DELETE", f"/images/{name}?force=1")


def test_run_pulls_what_is_missing_and_says_so_on_stderr(cli: Cli, engine: Engine, registry: Registry) -> None:
    pushed = push_image(registry, "box", busybox_layers())
    name = f"{registry.address}/box"
    result = cli("run", "--rm", name, "cat", "/etc/motd")
    assert result.out == "a second layer\n"
    assert f"Unable to find image '{name}:latest' locally" in result.err
    assert f"Digest: {pushed.digest}" in result.err
    assert f"Status: Downloaded newer image for {name}:latest" in result.err
    assert engine.api("GET", f"/images/{name}/json").json["RepoDigests"] == [f"{name}@{pushed.digest}"]


def test_pull_again_is_up_to_date_and_layers_are_shared(cli: Cli, registry: Registry) -> None:
    layers = busybox_layers()
    push_image(registry, "box", layers)
    first = cli.out("pull", f"{registry.address}/box")
    assert first.count("Pull complete") + first.count("Already exists") == 2
    assert "Image is up to date for" in cli.out("pull", f"{registry.address}/box")
    # a layer of its own: another command line's, just removed, may not have been collected yet
    push_image(registry, "box", [*layers, layer_tar({"third": b"3", "by": cli.name.encode()})], tag="more")
    more = cli.out("pull", f"{registry.address}/box:more")
    assert (more.count("Already exists"), more.count("Pull complete")) == (2, 1)
    assert cli.out("run", "--rm", f"{registry.address}/box:more", "cat", "/third") == "3"


def test_pull_by_digest_and_quiet(cli: Cli, registry: Registry) -> None:
    pushed = push_image(registry, "box", busybox_layers())
    name = f"{registry.address}/box@{pushed.digest}"
    assert cli.out("pull", "-q", name) == name
    assert cli.out("run", "--rm", name, "echo", "by digest") == "by digest"


def test_an_unknown_tag_is_named(cli: Cli, registry: Registry) -> None:
    push_image(registry, "box", busybox_layers())
    assert "manifest unknown" in cli("pull", f"{registry.address}/box:no-such", code=1).err


def test_the_images_config_is_what_runs(cli: Cli, registry: Registry) -> None:
    config = {
        "Env": ["PATH=/bin", "FROM_IMAGE=1"],
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["pwd; echo $FROM_IMAGE; id -un"],
        "WorkingDir": "/var",
        "User": "alice",
        "Labels": {"of": "the image"},
    }
    push_image(registry, "configured", busybox_layers(), config)
    name = f"{registry.address}/configured"
    cli("pull", "-q", name)
    assert cli.out("run", "--rm", name).split() == ["/var", "1", "alice"]
    assert cli.out("image", "inspect", "--format", "{{.Config.Labels.of}}", name) == "the image"


def test_a_hundred_layers(engine: Engine, registry: Registry) -> None:
    layers = [*busybox_layers(), *(layer_tar({f"n{n}": str(n).encode(), "last": str(n).encode()}) for n in range(100))]
    push_image(registry, "tall", layers)
    name = f"{registry.address}/tall"
    engine.rorqual("pull", "-q", name)
    assert engine.rorqual.out("run", "--rm", name, "sh", "-c", "cat /last; ls /n* | wc -l") == "99100"


def test_a_password_is_asked_for_and_taken(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    with engine.inside(), Registry(tmp_path / "r", htpasswd=True) as registry:
        push_image(registry, "private", busybox_layers())
        name = f"{registry.address}/private"
        assert cli("pull", name, code=1).err
        cli("login", "-u", USERNAME, "--password-stdin", registry.address, stdin=PASSWORD.encode())
        cli("pull", "-q", name)
        cli("logout", registry.address)


def test_what_was_pulled_survives_the_death_of_everything(engine: Engine, registry: Registry) -> None:
    push_image(registry, "box", busybox_layers())
    name = f"{registry.address}/box"
    engine.rorqual("pull", "-q", name)
    engine.kill("rorquald")
    engine.kill("containerd")
    engine.start()
    assert engine.rorqual.out("run", "--rm", name, "echo", "still here") == "still here"


def test_removal_gives_content_and_snapshots_back(engine: Engine, registry: Registry) -> None:
    from support.processes import wait_for

    before = engine.held()
    blobs = set((engine.data / "content" / "blobs" / "sha256").iterdir())
    push_image(registry, "box", [*busybox_layers(), layer_tar({"unique": b"x" * 100_000})])
    name = f"{registry.address}/box"
    engine.rorqual("pull", "-q", name)
    engine.rorqual("rmi", name)
    wait_for(
        lambda: set((engine.data / "content" / "blobs" / "sha256").iterdir()) <= blobs, "the content is collected", 20
    )
    wait_for(lambda: engine.held().snapshots <= before.snapshots, "the snapshots are collected", 20)
