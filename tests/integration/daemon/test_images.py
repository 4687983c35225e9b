"""The images that are here: lists and filters, removal and prune by Docker's rules, history, disk usage, registries."""

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.busybox import rootfs_tar
from support.engine import Engine
from support.processes import wait_for
from support.registry import Registry, push_image

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    """An engine in the machine's network namespace, so that registries of the tests are on its loopback."""
    with Engine(own_network=False) as engine:
        yield engine


def ids(engine: Engine, *arguments: str) -> list[str]:
    return engine.docker.out("images", "-q", "--no-trunc", *arguments).split()


def id_of(engine: Engine, name: str) -> str:
    return engine.docker.out("image", "inspect", "-f", "{{.Id}}", name)


def make(engine: Engine, name: str, base: str = "busybox", *changes: str, run: str = "true") -> str:
    """A container's changes as an image; its ID."""
    engine.docker("run", "--name", "maker", base, "sh", "-c", run)
    arguments = [part for change in changes for part in ("-c", change)]
    id = engine.docker.out("commit", *arguments, "maker", *([name] if name else []))
    engine.docker("rm", "maker")
    return id


# ---- lists ----


def test_filters_choose_images(own: Engine) -> None:
    docker = own.docker
    first = make(own, "team/app:1", "busybox", "LABEL tier=web")
    second = make(own, "team/app:2", "busybox", "LABEL tier=db", run="echo 2 >/2")
    nameless = make(own, "", run="echo 3 >/3")
    try:
        assert ids(own, "-f", "reference=team/*") == [second, first]
        assert ids(own, "-f", "reference=*app*") == []
        assert ids(own, "-f", "reference=team/app:1") == [first]
        assert ids(own, "-f", "label=tier") == [second, first]
        assert ids(own, "-f", "label=tier=web") == [first]
        assert nameless in ids(own, "-f", "dangling=true") and first not in ids(own, "-f", "dangling=true")
        assert nameless not in ids(own, "-f", "dangling=false")
        assert ids(own, "-f", "since=team/app:1", "-f", "reference=team/*") == [second]
        assert ids(own, "-f", "before=team/app:2", "-f", "reference=team/*") == [first]
        assert first in ids(own, "-f", f"until={int(time.time()) + 60}")
        assert first not in ids(own, "-f", "until=1h")
        assert ids(own, "team/app:2") == [second]
        assert "invalid filter 'nonsense'" in docker("images", "-f", "nonsense=1", code=1).err
        assert "syntax error in pattern" in docker("images", "-f", "reference=[", code=1).err
    finally:
        docker("rmi", "team/app:1", "team/app:2", nameless)


def test_old_clients_get_names_for_nameless_images(own: Engine) -> None:
    nameless = make(own, "")
    filters = quote(json.dumps({"dangling": ["true"]}))
    old = own.api("GET", f"/v1.41/images/json?filters={filters}").json
    new = own.api("GET", f"/v1.56/images/json?filters={filters}").json
    own.docker("rmi", nameless)
    assert old[0]["RepoTags"] == ["<none>:<none>"] and old[0]["RepoDigests"] == ["<none>@<none>"]
    assert new[0]["RepoTags"] == [] and new[0]["RepoDigests"] == []


def test_old_clients_get_sizes_and_no_descriptors(own: Engine) -> None:
    for path, first in (("images/json", 0), ("images/busybox/json", None)):

        def shown(version: str, path: str = path, first: int | None = first) -> Any:
            answer = own.api("GET", f"/v{version}/{path}").json
            return answer if first is None else answer[first]

        assert shown("1.43")["VirtualSize"] == shown("1.43")["Size"] > 0
        assert "VirtualSize" not in shown("1.44") and "Descriptor" not in shown("1.47")
        assert shown("1.48")["Descriptor"]["digest"].startswith("sha256:")


def test_old_clients_get_the_container_that_an_image_was_made_from(own: Engine) -> None:
    """docker-compose 1 finds the image's volumes there."""
    id = own.docker.out("create", "busybox", "true")
    own.docker("commit", "-c", "VOLUME /v", id, "made")
    for image, container in (("made", id), ("busybox", "")):
        old = own.api("GET", f"/v1.44/images/{image}/json").json
        assert old["Container"] == container and "Cmd" in old["ContainerConfig"]
    new = own.api("GET", "/v1.45/images/busybox/json").json
    assert "Container" not in new and "ContainerConfig" not in new


def test_parents_are_hidden_shown_with_all_and_known_to_history(own: Engine) -> None:
    docker = own.docker
    below = make(own, "below:1", run="echo 1 >/1")
    above = make(own, "above:1", "below:1", run="echo 2 >/2")
    lines = docker.out("history", "--no-trunc", "--format", "{{.ID}}", "above:1").splitlines()
    assert lines[:2] == [above, below]
    # Its name goes, it has to stay.
    assert docker.out("rmi", "below:1") == "Untagged: below:1"
    assert below not in ids(own) and below in ids(own, "-a")
    assert "image has dependent child images" in docker("rmi", "-f", below, code=1).err
    removed = docker.out("rmi", "above:1").splitlines()
    assert f"Deleted: {above}" in removed and f"Deleted: {below}" in removed
    assert below not in ids(own, "-a")


# ---- removal ----


def test_a_layer_goes_with_the_last_image_that_has_it(own: Engine) -> None:
    docker = own.docker
    make(own, "layered:1", run="echo unique >/unique")
    chain = docker.out("image", "inspect", "-f", "{{len .RootFS.Layers}}", "layered:1")
    assert chain == "2"
    deleted = [line for line in docker.out("rmi", "layered:1").splitlines() if line.startswith("Deleted")]
    # The image and its own layer; busybox's stays.
    assert len(deleted) == 2
    assert docker.out("run", "--rm", "busybox", "echo", "alive") == "alive"


def test_conflicts_are_told_in_dockers_words(own: Engine) -> None:
    docker = own.docker
    id = make(own, "used:1", run="echo x >/x")
    short = id.removeprefix("sha256:")[:12]
    docker("tag", "used:1", "elsewhere:1")
    said = docker("rmi", id, code=1).err
    assert f"unable to delete {short} (must be forced) - image is referenced in multiple repositories" in said
    docker("rmi", "elsewhere:1")
    stopped = docker.out("create", "--name", "stopped", "used:1", "true")
    said = docker("rmi", "used:1", code=1).err
    assert (
        'unable to remove repository reference "used:1" (must force) - container '
        f"{stopped[:12]} is using its referenced image {short}" in said
    )
    said = docker("rmi", id, code=1).err
    assert f"(must be forced) - image is being used by stopped container {stopped[:12]}" in said
    running = docker.out("run", "-d", "--name", "running", "used:1", "sleep", "100")
    said = docker("rmi", "-f", id, code=1).err
    assert f"(cannot be forced) - image is being used by running container {running[:12]}" in said
    assert docker.out("rmi", "-f", "used:1") == "Untagged: used:1"
    assert id in ids(own, "-f", "dangling=true")
    docker("rm", "-f", "running")
    assert f"Deleted: {id}" in docker.out("rmi", "-f", id)
    docker("rm", "stopped")
    assert "No such image: used:1" in docker("rmi", "used:1", code=1).err
    assert "force to force delete" in docker("rmi", "--platform", "linux/arm64", "busybox", code=1).err
    assert id_of(own, "busybox")


def test_prune_takes_what_nothing_uses(own: Engine) -> None:
    docker = own.docker
    nameless = make(own, "", run="dd if=/dev/zero of=/big bs=1M count=1 2>/dev/null")
    labelled = make(own, "", "busybox", "LABEL keep=yes", run="echo 2 >/2")
    used = make(own, "used:1", run="echo 3 >/3")
    unused = make(own, "unused:1", run="echo 4 >/4")
    docker("create", "--name", "user", "used:1", "true")
    answer = own.api("POST", f"/images/prune?filters={quote(json.dumps({'label!': ['keep']}))}").json
    assert next(item["Deleted"] for item in answer["ImagesDeleted"] if "Deleted" in item) == nameless
    assert answer["SpaceReclaimed"] >= 1 << 20
    assert labelled in ids(own) and unused in ids(own)
    docker("image", "prune", "-af", "--filter", f"until={int(time.time()) - 3600}")
    assert unused in ids(own)
    docker("tag", "busybox", "busybox:kept")
    docker("create", "--name", "keeper", "busybox", "true")
    docker("image", "prune", "-af")
    left = ids(own)
    assert used in left and unused not in left and labelled not in left
    docker("rm", "user", "keeper")
    docker("rmi", "used:1", "busybox:kept")


def test_nothing_is_left_of_removed_images(own: Engine) -> None:
    blobs, layers = own.data / "content/blobs/sha256", own.data / "snapshots/overlayfs"
    before = {*blobs.iterdir()}, {*layers.iterdir()}
    make(own, "gone:1", run="echo x >/x")
    own.docker("save", "-o", str(own.root / "gone.tar"), "gone:1")
    own.docker("rmi", "gone:1")
    own.docker("load", "-q", "-i", str(own.root / "gone.tar"))
    own.docker("rmi", "gone:1")
    wait_for(lambda: {*blobs.iterdir()} <= before[0] and {*layers.iterdir()} <= before[1], "the store is as before")
    wait_for(lambda: not any((own.data / "content/ingest").iterdir()), "no ingest is left")


# ---- disk usage ----


def test_disk_usage_tells_shared_from_own(own: Engine) -> None:
    docker = own.docker
    make(own, "sized:1", run="dd if=/dev/zero of=/own bs=1M count=3 2>/dev/null")
    docker("volume", "create", "measured")
    script = "dd if=/dev/zero of=/v/f bs=1M count=2 2>/dev/null"
    docker("run", "--name", "writer", "-v", "measured:/v", "sized:1", "sh", "-c", script)
    usage = own.api("GET", "/system/df").json
    image = next(i for i in usage["Images"] if i["RepoTags"] == ["sized:1"])
    assert image["Size"] - image["SharedSize"] == 3 << 20 and image["Containers"] == 1
    volume = next(v for v in usage["Volumes"] if v["Name"] == "measured")
    assert volume["UsageData"]["RefCount"] == 1 and volume["UsageData"]["Size"] >= 2 << 20
    assert usage["LayersSize"] == usage["ImageUsage"]["TotalSize"] >= image["Size"]
    assert set(own.api("GET", "/system/df?type=volume").json) >= {"VolumeUsage"}
    assert own.api("GET", "/system/df?type=nonsense").status == 400
    assert "sized" in docker.out("system", "df", "-v")
    docker("rm", "writer")
    docker("volume", "rm", "measured")
    docker("rmi", "sized:1")


# ---- registries ----


def test_pushed_and_pulled_images_are_the_same(own: Engine, tmp_path: Path) -> None:
    docker = own.docker
    with Registry(tmp_path) as registry:
        name = f"{registry.address}/round/trip"
        script = "ln /bin/busybox /hard; mkfifo /p; truncate -s 3M /holes; chmod 6755 /bin/busybox; touch -d @-5 /p"
        id = make(own, f"{name}:1", "busybox", "CMD stat -c %Y /p", run=script)
        docker("tag", f"{name}:1", f"{name}:2")
        docker("push", "-q", "-a", name)
        before = json.loads(docker.out("image", "inspect", f"{name}:1"))[0]
        said = own.api("GET", f"/distribution/{name}:1/json").json
        assert before["RepoDigests"] == [f"{name}@{said['Descriptor']['digest']}"]
        assert said["Platforms"] == [{"architecture": before["Architecture"], "os": "linux"}]
        docker("rmi", f"{name}:1", f"{name}:2")
        wait_for(lambda: id not in ids(own, "-a"), "removed")
        assert docker.out("pull", "-q", "-a", name) == name
        after = json.loads(docker.out("image", "inspect", f"{name}:2"))[0]
        for key in ("Id", "RootFS", "RepoDigests", "RepoTags", "Size", "Config"):
            assert after[key] == before[key]
        assert docker.out("run", "--rm", f"{name}:1") == "-5"
        docker("rmi", f"{name}:1", f"{name}:2")


def test_pushing_what_is_not_here_names_it(own: Engine) -> None:
    docker = own.docker
    docker("tag", "busybox", "127.0.0.1:1/there:1")
    for name, text in (
        ("127.0.0.1:1/missing:1", "An image does not exist locally with the tag: 127.0.0.1:1/missing"),
        ("127.0.0.1:1/there:2", "tag does not exist: 127.0.0.1:1/there:2"),
        ("127.0.0.1:1/there:1", "connection refused"),
    ):
        assert text in docker("push", name, code=1).err
    docker("rmi", "127.0.0.1:1/there:1")


class _Hub(http.server.BaseHTTPRequestHandler):
    """A registry's search, and a file to import."""

    def do_GET(self) -> None:
        found = [
            {"name": "official", "description": "d" * 60, "star_count": 9, "is_official": True},
            {"name": "someone/else", "description": "", "star_count": 1, "is_automated": True},
        ]
        if self.path.startswith("/v1/search?q=term&n="):
            body = json.dumps({"results": found}).encode()
        else:
            body = {"/v2/": b"{}", "/rootfs.tar": rootfs_tar()}.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_search_asks_the_registry_and_filters(own: Engine, hub: str) -> None:
    docker = own.docker
    names = ("search", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}")
    assert docker.out(*names, f"{hub}/term").split("\n") == ["official 9 [OK]", "someone/else 1 "]
    assert docker.out(*names, "-f", "is-official=true", f"{hub}/term") == "official 9 [OK]"
    assert docker.out(*names, "-f", "stars=5", f"{hub}/term") == "official 9 [OK]"
    assert docker.out(*names, "-f", "is-automated=true", f"{hub}/term") == "someone/else 1 "
    assert "outside the range of [1, 100]" in docker("search", "--limit", "101", f"{hub}/term", code=1).err


def test_import_takes_urls_and_changes(own: Engine, hub: str) -> None:
    docker = own.docker
    docker("import", "-c", "CMD echo $A", "-c", "ENV A=imported", "-m", "why", f"http://{hub}/rootfs.tar", "url:1")
    assert docker.out("run", "--rm", "url:1") == "imported"
    assert docker.out("history", "--format", "{{.Comment}}", "url:1") == "why"
    assert "404" in docker("import", f"http://{hub}/missing.tar", code=1).err
    answer = own.api("POST", "/images/create?fromSrc=file%3A%2F%2F%2Fetc%2Fpasswd")
    assert answer.status == 400 and "unsupported protocol scheme" in answer.message
    docker("rmi", "url:1")


def test_a_layer_whose_blob_was_collected_is_fetched_again(own: Engine, tmp_path: Path) -> None:
    docker = own.docker
    with Registry(tmp_path / "r") as registry:
        name = f"{registry.address}/held:1"
        push_image(registry, "held", [rootfs_tar()], {"Cmd": ["true"]}, tag="1")
        docker("pull", "-q", name)
        docker("create", "--name", "holder", name)
        # The container keeps the layer, and nothing its blob.
        docker("rmi", "-f", name)
        wait_for(lambda: not _has_blobs(own, registry), "the blobs are collected")
        docker("pull", "-q", name)
        docker("save", "-o", str(tmp_path / "held.tar"), name)
        docker("rm", "holder")
        docker("rmi", name)


def _has_blobs(engine: Engine, registry: Registry) -> bool:
    blobs = {path.name for path in (engine.data / "content/blobs/sha256").iterdir()}
    theirs = (registry._directory / "data").glob("docker/registry/v2/blobs/sha256/*/*")
    return bool(blobs & {path.name for path in theirs})


def test_the_tree_is_the_stock_clients(own: Engine) -> None:
    own.docker("tag", "busybox", "second:1")
    own.docker("create", "--name", "user", "second:1", "true")
    stock = re.sub(r"\x1b\[[0-9;]*m", "", own.docker("images", "--tree").out)
    ours = own.rorqual("images", "--tree").out
    assert [line.rstrip() for line in ours.splitlines()] == [line.rstrip() for line in stock.splitlines()]
    assert "not yet supported with --tree" in own.rorqual("images", "--tree", "-q", code=1).err
    own.docker("rm", "user")
    own.docker("rmi", "second:1")


def test_names_that_mean_something_else_are_refused_as_docker_does(own: Engine) -> None:
    for method, path, status, text in (
        ("POST", "/images/create?fromImage=scratch&tag=latest", 403, "'scratch' is a reserved name"),
        ("POST", "/images/busybox/tag?repo=sha256&tag=1", 400, "using digest algorithm as name"),
        ("DELETE", "/images/%20", 400, "image name cannot be blank"),
    ):
        answer = own.api(method, path)
        assert answer.status == status and text in answer.message, path


def test_an_import_says_where_it_is_from(own: Engine) -> None:
    own.docker("import", "-", "from:1", stdin=rootfs_tar())
    assert own.docker.out("history", "--format", "{{.Comment}}", "from:1") == "Imported from -"
    own.docker("rmi", "from:1")
