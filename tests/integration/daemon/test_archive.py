"""cp, export and diff: files of running, stopped and never started containers, and what a hostile container tries."""

import base64
import http.client
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support.covers import covers
from support.engine import Answer, Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


def tar_of(files: dict[str, bytes | None], mode: str = "w", **fields: Any) -> bytes:
    """A tar of files (None: a directory)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.mode = 0o755 if data is None else 0o644
            info.size = len(data or b"")
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


def put(engine: Engine, container: str, path: str, body: bytes, query: str = "") -> Answer:
    headers = {"Content-Type": "application/x-tar"}
    return engine.api("PUT", f"/containers/{container}/archive?path={path}{query}", body, headers)


def get(engine: Engine, container: str, path: str) -> dict[str, bytes | None]:
    """The files of a tar out of the container, None for what is no regular file."""
    answer = engine.api("GET", f"/containers/{container}/archive?path={path}")
    assert answer.status == 200, answer.body
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {m.name: (tar.extractfile(m).read() if m.isreg() else None) for m in tar}  # type: ignore[union-attr]


def stat_of(engine: Engine, container: str, path: str) -> dict[str, Any]:
    answer = engine.api("HEAD", f"/containers/{container}/archive?path={path}")
    assert answer.status == 200
    header = {k.lower(): v for k, v in answer.headers.items()}["x-docker-container-path-stat"]
    found: dict[str, Any] = json.loads(base64.b64decode(header))
    return found


@pytest.fixture
def running(engine: Engine) -> str:
    engine.docker("run", "-d", "--name", "target", "-v", "target-data:/data", "busybox", "sleep", "600")
    return "target"


@pytest.mark.parametrize("state", ["running", "paused", "exited", "created"])
def test_cp_goes_both_ways_in_every_state(cli: Cli, tmp_path: Path, state: str) -> None:
    command = ("true",) if state == "exited" else ("sleep", "600")
    cli("create", "--name", "target", "-v", "target-data:/data", "busybox", *command)
    if state != "created":
        cli("start", *(["-a"] if state == "exited" else []), "target")
    if state == "paused":
        cli("pause", "target")
    (tmp_path / "dir" / "sub").mkdir(parents=True)
    (tmp_path / "dir" / "sub" / "file").write_bytes(b"x" * 70_000)
    (tmp_path / "dir" / "link").symlink_to("/etc/passwd")
    for place in ("/tmp", "/data"):  # the container's own file system, and a volume
        cli("cp", str(tmp_path / "dir"), f"target:{place}/new")
        cli("cp", f"target:{place}/new", str(tmp_path / f"back{place.replace('/', '-')}"))
        back = tmp_path / f"back{place.replace('/', '-')}"
        assert (back / "sub" / "file").read_bytes() == b"x" * 70_000
        assert os.readlink(back / "link") == "/etc/passwd"
    cli("rm", "-f", "-v", "target")


def test_cp_streams_tars_and_follows_links_when_asked(cli: Cli, running: str, tmp_path: Path) -> None:
    cli("exec", running, "ln", "-s", "/etc/passwd", "/tmp/link")
    cli("cp", "-", f"{running}:/tmp", stdin=tar_of({"in": b"from a tar"}))
    with tarfile.open(fileobj=io.BytesIO(cli("cp", f"{running}:/tmp/in", "-").out.encode())) as tar:
        assert tar.extractfile("in").read() == b"from a tar"  # type: ignore[union-attr]
    cli("cp", "-L", f"{running}:/tmp/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_bytes().startswith(b"root:")
    quiet = cli("cp", "-q", str(tmp_path / "followed"), f"{running}:/tmp/quiet")
    assert (quiet.out, quiet.err) == ("", "")


@covers("ContainerArchiveInfo path", "ContainerArchive path")
def test_stat_tells_kind_mode_size_and_where_a_link_leads(engine: Engine, running: str) -> None:
    engine.docker(
        "exec", running, "sh", "-c", "cd /tmp; echo hi >f; chmod 4751 f; ln -s ../tmp/none l; mkdir -m 1777 d"
    )
    file, link, directory = (stat_of(engine, running, f"/tmp/{name}") for name in "fld")
    assert (file["name"], file["size"], file["mode"], file["linkTarget"]) == ("f", 3, 0o751 | 1 << 23, "")
    assert link["mode"] >> 27 & 1 and link["linkTarget"] == "/tmp/none"
    assert directory["mode"] == 1 << 31 | 1 << 20 | 0o777
    assert stat_of(engine, running, "/")["name"] == "/"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/no/such", 404, "Could not find the file /no/such in container target"),
        ("/etc/passwd", 400, "extraction point is not a directory"),
        ("", 400, "path cannot be empty"),
    ],
)
def test_what_cannot_be_unpacked_into_is_refused(
    engine: Engine, running: str, path: str, status: int, text: str
) -> None:
    answer = put(engine, running, path, tar_of({"f": b""}))
    assert (answer.status, text in answer.message) == (status, True), answer.body


def test_a_read_only_root_or_volume_is_refused_and_a_writable_volume_in_it_is_not(engine: Engine) -> None:
    engine.docker(
        "run", "-d", "--name", "ro", "--read-only", "-v", "vol-a:/rw", "-v", "vol-b:/ro:ro", "busybox", "sleep", "600"
    )
    body = tar_of({"f": b"1"})
    assert "container rootfs is marked read-only" in put(engine, "ro", "/tmp", body).message
    assert "mounted volume is marked read-only" in put(engine, "ro", "/ro", body).message
    assert put(engine, "ro", "/rw", body).status == 200
    engine.docker("rm", "-f", "ro")
    engine.docker("volume", "rm", "vol-a", "vol-b")


@covers("PutContainerArchive path", "PutContainerArchive noOverwriteDirNonDir")
def test_directories_and_files_do_not_replace_each_other_when_asked(engine: Engine, running: str) -> None:
    engine.docker("exec", running, "sh", "-c", "mkdir -p /tmp/d/x; echo 1 >/tmp/f")
    over_directory = put(engine, running, "/tmp", tar_of({"d": b"file"}), "&noOverwriteDirNonDir=1")
    over_file = put(engine, running, "/tmp", tar_of({"f": None}), "&noOverwriteDirNonDir=1")
    assert "cannot overwrite directory" in over_directory.message
    assert "cannot overwrite non-directory" in over_file.message
    assert put(engine, running, "/tmp", tar_of({"d": b"file"})).status == 200
    assert get(engine, running, "/tmp/d") == {"d": b"file"}


@covers("PutContainerArchive copyUIDGID", "PutContainerArchive body:inputStream")
def test_owners_are_the_archives_or_the_containers_user(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "owner", "-u", "alice:audio", "busybox", "sleep", "600")
    put(engine, "owner", "/tmp", tar_of({"theirs": b""}, uid=7, gid=8))
    put(engine, "owner", "/tmp", tar_of({"own": b""}, uid=7, gid=8), "&copyUIDGID=1")
    assert engine.docker.out("exec", "owner", "stat", "-c", "%u:%g", "/tmp/theirs", "/tmp/own") == "7:8\n1000:29"


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_cve_2026_41567_archives_are_not_unpacked_by_the_containers_programs(
    engine: Engine, running: str, mode: str
) -> None:
    trap = "for p in xz unxz gzip gunzip bzip2 unpigz tar; do printf '#!/bin/sh\\ntouch /tmp/pwned' >/usr/bin/$p; done"
    engine.docker("exec", running, "sh", "-c", f"{trap}; chmod 755 /usr/bin/*")
    assert put(engine, running, "/tmp", tar_of({"packed": b"content"}, mode)).status == 200
    assert get(engine, running, "/tmp/packed") == {"packed": b"content"}
    assert engine.docker("exec", running, "test", "-e", "/tmp/pwned", code=None).code == 1


def test_cve_2018_15664_a_link_swapped_during_cp_never_leads_to_the_host(
    engine: Engine, running: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "secret").write_bytes(b"host")
    swap = (
        f"mkdir -p {canary} /w/d; echo own >{canary}/secret; echo own >/w/d/secret; cd /w; ln -s {canary} l;"
        "touch ready;"
        "while :; do mv l x; mv x l; mv d x; mv x d; done"
    )
    engine.docker("exec", "-d", running, "sh", "-c", swap)
    wait_for(lambda: engine.docker("exec", running, "test", "-e", "/w/ready", code=None).code == 0, "the swapper runs")
    body = tar_of({"secret": b"own\n", "new": b"own\n"})
    written = read = 0
    for _ in range(150):
        written += put(engine, running, "/w/x", body).status == 200
        answer = engine.api("GET", f"/containers/{running}/archive?path=/w/x/secret")
        assert answer.status != 200 or b"host" not in answer.body
        read += answer.status == 200
        if written > 20 and read > 20:
            break
    assert written and read, "no path was there when it was asked for: the test proves nothing"
    assert sorted(os.listdir(canary)) == ["secret"] and (canary / "secret").read_bytes() == b"host"


def test_archive_members_stay_below_the_directory(engine: Engine, running: str, tmp_path: Path) -> None:
    target = tmp_path / "host"
    target.mkdir()
    engine.docker(
        "exec", running, "sh", "-c", f"mkdir -p /tmp/into; ln -s {target} /tmp/into/abs; ln -s / /tmp/into/up"
    )
    names = ("../../../../../evil", f"abs/../../..{target}/evil", f"up{target}/evil")
    for name in names:
        put(engine, running, "/tmp/into", tar_of({name: b"evil"}))
    assert os.listdir(target) == []
    assert not Path("/evil").exists()


def test_cve_2026_42306_mount_targets_that_are_links_stay_in_the_container(engine: Engine, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    engine.docker("run", "--name", "base", "busybox", "ln", "-s", str(canary), "/data")
    engine.docker("commit", "base", "linked:latest")
    engine.docker("create", "--name", "target", "-v", "target-data:/data", "linked:latest", "true")
    before = Path("/proc/self/mountinfo").read_text().count(str(canary))
    assert put(engine, "target", str(canary), tar_of({"f": b"1"})).status == 200
    assert get(engine, "target", "/data/f") == {"f": b"1"}
    assert os.listdir(canary) == []
    assert Path("/proc/self/mountinfo").read_text().count(str(canary)) == before


def test_cve_2019_14271_nothing_of_the_container_is_loaded_by_the_engine(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "lib", "-u", "alice", "busybox", "sleep", "600")
    poison = tar_of({f"lib/{name}.so.2": b"\x7fELF" for name in ("libnss_files", "libnss_dns", "libc")})
    put(engine, "lib", "/", poison)
    put(engine, "lib", "/", tar_of({"etc/nsswitch.conf": b"passwd: files poison\n"}))
    assert put(engine, "lib", "/tmp", tar_of({"f": b""}), "&copyUIDGID=1").status == 200
    maps = Path(f"/proc/{engine.pids('rorquald')[0]}/maps").read_text()
    assert str(engine.data / "snapshots") not in maps
    assert os.readlink(f"/proc/{engine.pids('rorquald')[0]}/root") == "/"


def test_special_files_neither_block_nor_act(engine: Engine, running: str) -> None:
    engine.docker("exec", running, "sh", "-c", "mkdir /tmp/s; cd /tmp/s; mkfifo fifo; mknod null c 1 3; echo 1 >file")
    found = get(engine, running, "/tmp/s")
    assert found["s/file"] == b"1\n" and set(found) == {"s", "s/fifo", "s/null", "s/file"}


def test_cp_sees_tmpfs_mounts_of_a_running_container_but_not_proc(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "tmpfs", "--tmpfs", "/t", "busybox", "sh", "-c", "echo in >/t/f; sleep 600")
    wait_for(lambda: engine.docker("exec", "tmpfs", "test", "-s", "/t/f", code=None).code == 0, "written")
    assert get(engine, "tmpfs", "/t/f") == {"f": b"in\n"}
    assert engine.api("HEAD", "/containers/tmpfs/archive?path=/proc/1").status == 404


def test_export_is_the_root_file_system_without_volumes(cli: Cli, engine: Engine, running: str) -> None:
    engine.docker(
        "exec", running, "sh", "-c", "echo v >/data/in-volume; echo r >/root/in-root; chmod 4755 /root/in-root"
    )
    answer = engine.api("GET", f"/containers/{running}/export")
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        members = {m.name: m for m in tar}
    assert "data/in-volume" not in members and members["data"].isdir()
    assert members["root/in-root"].mode & stat.S_ISUID
    assert members["bin/sh"].issym() or members["bin/sh"].islnk()


def test_diff_tells_what_was_added_changed_and_deleted(cli: Cli, running: str) -> None:
    script = "echo 1 >/etc/new; echo 2 >>/etc/passwd; rm /etc/group; rm -r /var/opt; mkdir /var/opt; echo 3 >/var/opt/f"
    cli("exec", running, "sh", "-c", script)
    lines = cli.out("diff", running).splitlines()
    expected = {"A /etc/new", "C /etc/passwd", "D /etc/group", "C /etc", "C /var", "C /var/opt", "A /var/opt/f"}
    assert expected <= set(lines)
    assert not {line for line in lines if line.endswith(("/etc/hosts", "/etc/resolv.conf", "/.dockerenv", "/dev"))}


def test_diff_of_an_untouched_container_is_empty(cli: Cli) -> None:
    cli("run", "--name", "idle", "busybox", "true")
    assert cli.out("diff", "idle") == ""


def test_no_mount_and_no_descriptor_of_a_cp_is_left(engine: Engine, running: str) -> None:
    engine.docker("run", "--name", "ended", "busybox", "true")
    daemon = engine.pids("rorquald")[0]

    def use() -> None:
        for name in (running, "ended"):
            assert put(engine, name, "/tmp", tar_of({"f": b"1"})).status == 200
            get(engine, name, "/tmp/f")
            engine.api("HEAD", f"/containers/{name}/archive?path=/etc")

    use()
    before = len(os.listdir(f"/proc/{daemon}/fd"))
    for _ in range(5):
        use()
    wait_for(lambda: len(os.listdir(f"/proc/{daemon}/fd")) <= before + 2, "descriptors are closed")
    wait_for(lambda: str(engine.data / "tmp") not in Path(f"/proc/{daemon}/mountinfo").read_text(), "no mount is left")


def test_an_archive_that_breaks_off_is_not_taken_for_a_whole_one(engine: Engine, running: str) -> None:
    deep = "mkdir -p /tmp/t/z; cd /tmp/t; dd if=/dev/zero of=a bs=1M count=4 2>/dev/null; cd z; i=0; "
    deep += "while [ $i -lt 1100 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done"
    engine.docker("exec", running, "sh", "-c", deep)
    with pytest.raises(http.client.IncompleteRead):
        engine.api("GET", f"/containers/{running}/archive?path=/tmp/t")
    assert engine.docker("cp", f"{running}:/tmp/t", "-", code=None).code != 0
