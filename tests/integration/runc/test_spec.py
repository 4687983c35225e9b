"""Members of config.json seen from inside: users, mounts, hooks, user namespaces, limits, seccomp."""

import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rorqual.oci.runtime import (
    Hook,
    Hooks,
    IDMapping,
    Mount,
    Namespace,
    Rlimit,
    Root,
    Seccomp,
    SeccompSyscall,
    Spec,
    TimeOffset,
    User,
)
from rorqual.runc.errors import StartError
from rorqual.runc.rootfs.root import RootMount

from .conftest import Bundle, wait

pytestmark = pytest.mark.root
KERNEL = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        (User(5, 6, additional_gids=(7,)), ["5", "6", "7"]),
        (User(username="www"), ["33", "34", "34 77 78"]),
        (User(username="www:extra"), ["33", "77", "77"]),
        (User(username="33"), ["33", "34", "34 77 78"]),
        (User(username="1234:4321"), ["1234", "4321", "4321"]),
        (User(username="www:root", additional_groups=("other", "99")), ["33", "0", "0 78 99"]),
    ],
)
def test_user(bundle: Bundle, user: User, ids: list[str]) -> None:
    out = bundle.sh("cat /proc/self/status; echo HOME=$HOME", process={"user": user})
    fields = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert [fields["Uid"].split()[0], fields["Gid"].split()[0], fields["Groups"].strip()] == ids
    assert ("HOME=/srv/www" if "33" in ids else "HOME=/") in out


def test_streams_can_be_reopened_by_the_user(bundle: Bundle) -> None:
    assert bundle.sh("echo again > /dev/stdout", process={"user": User(33, 34)}) == "again\n"


def test_binds(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("content")
    spec = bundle.spec("sh", "-c", "cat /deep/er/file; touch /ro/x; touch /rw/y; cat /proc/self/mountinfo")
    mounts = (
        *spec.mounts,
        Mount("/deep/er/file", "bind", str(tmp_path / "file"), ("bind", "ro")),
        Mount("/ro", "bind", str(tmp_path / "dir"), ("rbind", "ro", "nosuid")),
        Mount("/rw", "none", str(tmp_path / "dir"), ("bind", "rprivate")),
    )
    status, out, err = bundle.run(replace(spec, mounts=mounts))
    assert status == 0
    assert out.startswith("content")
    assert "Read-only" in err
    assert sorted(os.listdir(tmp_path / "dir")) == ["y"]


def test_tmpfs_modes_and_copy_up(bundle: Bundle) -> None:
    (bundle.rootfs / "data/sub").mkdir(parents=True)
    (bundle.rootfs / "data/sub/f").write_text("from image")
    (bundle.rootfs / "data").chmod(0o1750)
    spec = bundle.spec("sh", "-c", "cat /data/sub/f; stat -c %a /data /t; echo x > /data/sub/f; touch /t/x")
    mounts = (
        *spec.mounts,
        Mount("/data", "tmpfs", "tmpfs", ("tmpcopyup", "nodev")),
        Mount("/t", "tmpfs", "tmpfs", ("ro", "mode=700")),
    )
    _, out, err = bundle.run(replace(spec, mounts=mounts))
    assert out == "from image1750\n700\n"
    assert "Read-only" in err
    assert (bundle.rootfs / "data/sub/f").read_text() == "from image"


LONG = pytest.param(
    "a-directory-whose-long-name-fills-the-page-of-options",
    marks=pytest.mark.skipif(KERNEL < (6, 5), reason="overlayfs takes one layer a call since Linux 6.5"),
)


@pytest.mark.parametrize("parent", ["snapshots", LONG])
def test_overlay_root_of_many_layers_stays_off_the_host(bundle: Bundle, tmp_path: Path, parent: str) -> None:
    layers = []
    for number in range(120):
        layer = tmp_path / f"{parent}/{number:03d}/fs"
        layer.mkdir(parents=True)
        (layer / f"layer{number}").write_text("")
        layers.append(str(layer))
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = (
        f"lowerdir={':'.join([*layers, str(bundle.rootfs)])}",
        f"upperdir={tmp_path}/upper",
        f"workdir={tmp_path}/work",
    )
    spec = bundle.spec("sh", "-c", "echo /layer* | wc -w; echo up > /new")
    spec = replace(spec, root=Root(str(tmp_path / "merged")))
    status, out, err = bundle.run(spec, rootfs_mounts=(RootMount("overlay", "overlay", options),))
    assert (status, out) == (0, "120\n"), err
    assert (tmp_path / "upper/new").read_text() == "up\n"
    assert os.listdir(tmp_path / "merged") == []


def test_mounts_of_the_host_come_in_by_rslave(bundle: Bundle, tmp_path: Path) -> None:
    spec = bundle.spec("cat", "/proc/self/mountinfo")
    (tmp_path / "vol").mkdir()
    mount = Mount("/vol", "bind", str(tmp_path / "vol"), ("rbind", "rshared"))
    status, out, _ = bundle.run(replace(spec, mounts=(*spec.mounts, mount)))
    assert status == 0
    assert any(" /vol " in line and "shared:" in line for line in out.splitlines())


def _hook(path: Path, name: str, code: int = 0) -> Hook:
    script = f"echo {name} $(wc -c | grep -c .) >> {path}; exit {code}"
    return Hook("/bin/sh", ("sh", "-c", script), timeout=10)


def test_hooks_run_in_order_and_place(bundle: Bundle, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    spec = replace(
        bundle.spec("sh", "-c", "echo program"),
        hooks=Hooks(
            prestart=(_hook(trace, "prestart"),),
            create_runtime=(_hook(trace, "createRuntime"),),
            create_container=(_hook(trace, "createContainer"),),
            start_container=(Hook("/bin/sh", ("sh", "-c", "cat > /tmp/state"), ("PATH=/bin",)),),
            poststart=(_hook(trace, "poststart"),),
            poststop=(_hook(trace, "poststop"),),
        ),
    )
    assert bundle.run(spec)[:2] == (0, "program\n")
    names = [line.split()[0] for line in trace.read_text().splitlines()]
    assert names == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    assert json.loads((bundle.rootfs / "tmp/state").read_text())["status"] == "created"


@pytest.mark.parametrize("name", ["prestart", "create_runtime", "create_container"])
def test_a_failing_hook_ends_create(bundle: Bundle, name: str) -> None:
    failing = Hook("/bin/sh", ("sh", "-c", "echo broken >&2; exit 3"))
    with pytest.raises(StartError, match="hook #0: exit status 3, stdout/stderr: broken"):
        bundle.create(replace(bundle.spec(), hooks=Hooks(**{name: (failing,)})))


def test_a_hanging_hook_is_ended(bundle: Bundle) -> None:
    hanging = Hook("/bin/sh", ("sh", "-c", "sleep 60"), timeout=1)
    with pytest.raises(StartError, match="ran past specified timeout of 1s"):
        bundle.create(replace(bundle.spec(), hooks=Hooks(create_runtime=(hanging,))))


def _user_namespace(spec: Spec) -> Spec:
    assert spec.linux is not None
    ids = (IDMapping(0, 100000, 65536),)
    namespaces = (*spec.linux.namespaces, Namespace("user"), Namespace("cgroup"))
    return replace(spec, linux=replace(spec.linux, uid_mappings=ids, gid_mappings=ids, namespaces=namespaces))


def test_user_namespace(bundle: Bundle, tmp_path: Path) -> None:
    for directory, _, files in os.walk(bundle.rootfs):
        for name in (".", *files):
            os.chown(os.path.join(directory, name), 100000, 100000, follow_symlinks=False)
    for parent in tmp_path.parents:
        if parent != Path("/") and not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    for directory in (tmp_path, bundle.path):
        directory.chmod(0o755)
    script = (
        "cat /proc/self/uid_map; stat -c %u /etc/passwd /proc/1; test -c /dev/null && echo null > /dev/null && echo ok"
    )
    made = _user_namespace(bundle.spec("sh", "-c", script))
    status, out, err = bundle.run(made)
    assert status == 0, err
    assert out.split() == ["0", "100000", "65536", "0", "0", "ok"]
    running = bundle.create(_user_namespace(bundle.spec("sleep", "100")))
    running.start()
    assert os.stat(f"/proc/{running.pid}").st_uid == 100000
    from rorqual.oci.runtime import Process

    pid, _ = running.exec(Process(args=("true",), env=("PATH=/bin",)))
    assert wait(pid) == 0


@pytest.mark.parametrize("kind", ["directory", "bind", "overlay"])
def test_a_user_namespace_below_closed_directories(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    """State is closed to others (CVE-2024-25621), of whom the container's root is one: mounted for it all the same."""
    closed = bundle.path.parent
    closed.chmod(0o700)
    bundle.path.chmod(0o700)
    lower = bundle.path / "lower"
    mounts: tuple[RootMount, ...] = ()
    if kind != "directory":
        bundle.rootfs.rename(lower)
        bundle.rootfs.mkdir(0o700)
        for name in ("upper", "work"):
            (bundle.path / name).mkdir()
        options = (f"lowerdir={lower}", f"upperdir={bundle.path}/upper", f"workdir={bundle.path}/work")
        mounts = (RootMount("bind", str(lower), ("rbind",)),)
        if kind == "overlay":
            mounts = (RootMount("overlay", "overlay", options),)
    script = "cat /proc/self/uid_map; head -n 1 /etc/passwd; ls /; cat /proc/self/mountinfo"
    status, out, err = bundle.run(_user_namespace(bundle.spec("sh", "-c", script)), rootfs_mounts=mounts)
    assert status == 0, err
    assert out.split()[:3] == ["0", "100000", "65536"]
    assert "root:x:0:0" in out
    assert (" - overlay " in out) == (kind == "overlay")
    assert closed.stat().st_mode & 0o777 == 0o700
    assert str(bundle.path) not in Path("/proc/self/mountinfo").read_text()  # the host sees nothing of it


def test_a_root_that_cannot_be_mounted_for_a_user_namespace(bundle: Bundle) -> None:
    mounts = (RootMount("overlay", "overlay", ("lowerdir=/nowhere:/nor/here",)),)
    with pytest.raises(StartError, match=r"error preparing rootfs .*: no such file or directory"):
        bundle.create(_user_namespace(bundle.spec("true")), rootfs_mounts=mounts)


def test_id_mapped_bind(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "vol").mkdir()
    (tmp_path / "vol/f").write_text("")
    os.chown(tmp_path / "vol/f", 1000, 1000)
    ids = (IDMapping(1000, 2000, 1),)
    spec = bundle.spec("stat", "-c", "%u:%g", "/vol/f")
    mount = Mount("/vol", "bind", str(tmp_path / "vol"), ("bind", "idmap"), ids, ids)
    status, out, err = bundle.run(replace(spec, mounts=(*spec.mounts, mount)))
    assert (status, out) == (0, "2000:2000\n"), err


def test_joined_namespaces(bundle: Bundle) -> None:
    first = bundle.create(bundle.spec("sleep", "100"))
    first.start()
    kinds = {"network": "net", "ipc": "ipc", "pid": "pid", "uts": "uts"}
    joined = tuple(Namespace(k, f"/proc/{first.pid}/ns/{n}") for k, n in kinds.items())
    script = "for n in net ipc pid uts; do readlink /proc/self/ns/$n; done; cat /proc/1/comm"
    spec = bundle.spec("sh", "-c", script, linux={"namespaces": (Namespace("mount"), *joined)})
    status, out, err = bundle.run(replace(spec, hostname=""))
    assert status == 0, err
    assert out.split() == [*(os.readlink(f"/proc/{first.pid}/ns/{n}") for n in kinds.values()), "sleep"]


def test_time_offsets(bundle: Bundle) -> None:
    spec = bundle.spec("cat", "/proc/uptime")
    assert spec.linux is not None
    namespaces = (*spec.linux.namespaces, Namespace("time"))
    linux = replace(spec.linux, namespaces=namespaces, time_offsets={"boottime": TimeOffset(1_000_000)})
    _, out, err = bundle.run(replace(spec, linux=linux))
    assert float(out.split()[0]) > 1_000_000, err


def test_a_working_directory_is_made_however_deep(bundle: Bundle) -> None:
    cwd = "/a" * 1500
    assert bundle.sh("readlink /proc/self/cwd", process={"cwd": cwd}).strip() == cwd
    with pytest.raises(StartError, match=r"mkdir .*: file name too long"):
        bundle.create(bundle.spec("true", process={"cwd": "/a" * 3000}))
    subprocess.run(["rm", "-rf", bundle.path / "rootfs" / "a"], check=True)  # too deep for Python's own way


def test_rlimits_umask_and_cwd(bundle: Bundle) -> None:
    process = {
        "rlimits": (Rlimit("RLIMIT_NOFILE", 123, 99), Rlimit("RLIMIT_CORE", 0, 0)),
        "cwd": "/made/here",
        "user": User(umask=0o077),
    }
    out = bundle.sh("pwd; umask; cat /proc/self/limits", process=process)
    assert out.split()[:2] == ["/made/here", "0077"]
    assert any(line.split()[3:5] == ["99", "123"] for line in out.splitlines() if line.startswith("Max open files"))


def test_no_new_privileges_and_seccomp_of_ones_own(bundle: Bundle) -> None:
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompSyscall(("mkdir", "mkdirat"), "SCMP_ACT_ERRNO", 77),))
    script = "mkdir /tmp/x; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status || cat /proc/self/status"
    _, out, err = bundle.run(
        bundle.spec("sh", "-c", script, linux={"seccomp": profile}, process={"no_new_privileges": True})
    )
    assert "NoNewPrivs:\t1" in out
    assert "Seccomp:\t2" in out
    assert "File descriptor in bad state" in err  # errno 77
