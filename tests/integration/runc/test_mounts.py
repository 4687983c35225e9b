"""Mount options one by one, ID-mapped mounts, what may be mounted on what, and network devices."""

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.linux import mount as linux_mount
from rorqual.linux import netlink
from rorqual.oci.runtime import Hook, Hooks, IDMapping, IntelRdt, Mount, Namespace, NetDevice, TimeOffset
from rorqual.runc.errors import StartError

from .conftest import Bundle, wait

pytestmark = pytest.mark.root


def options_of(mountinfo: str, target: str) -> set[str]:
    """Of the topmost mount there: its own options, propagation and the filesystem's."""
    for line in reversed(mountinfo.splitlines()):
        fields = line.split()
        if fields[4] == target:
            separator = fields.index("-")
            return {*fields[5].split(","), *fields[6:separator], *fields[separator + 3].split(",")}
    raise AssertionError(f"{target} is no mount point in {mountinfo}")


def mounted(bundle: Bundle, *mounts: Mount, script: str = "cat /proc/self/mountinfo", **linux: object) -> str:
    spec = bundle.spec("sh", "-c", script, linux=linux)
    status, out, err = bundle.run(replace(spec, mounts=(*spec.mounts, *mounts)))
    assert status == 0, err
    return out


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory with another mount below it."""
    (tmp_path / "tree/inner").mkdir(parents=True)
    linux_mount.mount("tmpfs", str(tmp_path / "tree/inner"), "tmpfs", 0, "size=1m")
    yield tmp_path / "tree"
    linux_mount.umount(str(tmp_path / "tree/inner"), linux_mount.MNT_DETACH)


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("nosymfollow", "nosymfollow"),
    ],
)
@pytest.mark.parametrize("kind", ["bind", "tmpfs", "copy-up"])
def test_an_option_is_on_the_mount(bundle: Bundle, tmp_path: Path, kind: str, option: str, shown: str) -> None:
    mounts = {
        "bind": Mount("/m", "bind", str(tmp_path), ("rbind", option)),
        "tmpfs": Mount("/m", "tmpfs", "tmpfs", (option,)),
        "copy-up": Mount("/m", "tmpfs", "tmpfs", ("tmpcopyup", option)),
    }
    assert shown in options_of(mounted(bundle, mounts[kind]), "/m")


def test_a_plain_option_is_on_the_mount_alone_and_a_recursive_one_below_too(bundle: Bundle, tree: Path) -> None:
    plain = mounted(bundle, Mount("/m", "bind", str(tree), ("rbind", "ro", "nosuid")))
    assert {"ro", "nosuid"} <= options_of(plain, "/m")
    assert not {"ro", "nosuid"} & options_of(plain, "/m/inner")
    deep = mounted(bundle, Mount("/m", "bind", str(tree), ("rbind", "rro", "rnoexec", "rnoatime")))
    for target in ("/m", "/m/inner"):
        assert {"ro", "noexec", "noatime"} <= options_of(deep, target)


def test_a_bind_that_is_not_recursive_leaves_out_what_is_below(bundle: Bundle, tree: Path) -> None:
    out = mounted(bundle, Mount("/m", "bind", str(tree), ("bind",)))
    assert " /m/inner " not in out


def test_recursive_options_of_a_filesystem(bundle: Bundle) -> None:
    out = mounted(bundle, Mount("/m", "tmpfs", "tmpfs", ("rnosuid", "rnodev", "rprivate")))
    assert {"nosuid", "nodev"} <= options_of(out, "/m")


@pytest.mark.parametrize(
    ("option", "shown"),
    [("rprivate", None), ("rshared", "shared:"), ("rslave", "master:"), ("unbindable", "unbindable")],
)
def test_propagation_of_a_bind(bundle: Bundle, tree: Path, option: str, shown: str | None) -> None:
    linux_mount.set_propagation(str(tree / "inner"), linux_mount.MS_SHARED)
    out = mounted(bundle, Mount("/m", "bind", str(tree / "inner"), ("rbind", option)))
    found = {o for o in options_of(out, "/m") if o.startswith(("shared:", "master:", "unbindable"))}
    assert (found == set()) if shown is None else any(o.startswith(shown) for o in found)


@pytest.mark.parametrize("name", ["private", "slave", "shared", "unbindable"])
def test_propagation_of_the_root(bundle: Bundle, name: str) -> None:
    found = options_of(mounted(bundle, rootfs_propagation=name), "/")
    assert any(o.startswith("shared:") for o in found) is (name == "shared")
    assert ("unbindable" in found) is (name == "unbindable")


def test_propagation_that_is_none(bundle: Bundle) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=r"linux\.rootfsPropagation"):
        bundle.create(bundle.spec(linux={"rootfs_propagation": "nope"}))


def _owned(tmp_path: Path) -> Path:
    (tmp_path / "owned/inner").mkdir(parents=True)
    (tmp_path / "owned/f").touch()
    os.chown(tmp_path / "owned/f", 1000, 1000)
    return tmp_path / "owned"


IDS = (IDMapping(1000, 2000, 1),)


def test_mappings_without_an_option_map_the_mount(bundle: Bundle, tmp_path: Path) -> None:
    mount = Mount("/m", "bind", str(_owned(tmp_path)), ("bind",), IDS, IDS)
    assert mounted(bundle, mount, script="stat -c %u:%g /m/f") == "2000:2000\n"


def test_a_file_made_through_a_mapped_mount_belongs_to_whom_the_map_says(bundle: Bundle, tmp_path: Path) -> None:
    root = (IDMapping(1000, 0, 1),)
    mount = Mount("/m", "bind", str(_owned(tmp_path)), ("bind", "idmap"), root, root)
    os.chown(tmp_path / "owned", 1000, 1000)
    mounted(bundle, mount, script="touch /m/new")
    assert (tmp_path / "owned/new").stat().st_uid == 1000


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        (Mount("/m", "bind", "/etc", ("bind", "idmap")), "idmap needs uidMappings and gidMappings"),
        (Mount("/m", "bind", "/etc", ("bind", "idmap"), IDS), "need each other"),
        (Mount("/m", "tmpfs", "tmpfs", ("idmap",), IDS, IDS), "only bind mounts can be ID-mapped"),
    ],
)
def test_mappings_that_cannot_be(bundle: Bundle, mount: Mount, text: str) -> None:
    spec = bundle.spec()
    with pytest.raises(errdefs.InvalidArgument, match=text):
        bundle.create(replace(spec, mounts=(*spec.mounts, mount)))


@pytest.mark.parametrize(
    ("member", "value", "text"),
    [
        ("mount_label", "system_u:object_r:x", r"linux\.mountLabel: selinux .* is disabled or not supported"),
        ("intel_rdt", IntelRdt(clos_id="x"), r"linux\.intelRdt: Intel RDT is not supported"),
    ],
)
def test_what_nothing_here_acts_on_is_refused(bundle: Bundle, member: str, value: object, text: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=text):
        bundle.create(bundle.spec(linux={member: value}))


def test_a_source_that_is_not_there(bundle: Bundle) -> None:
    spec = bundle.spec()
    mount = Mount("/m", "bind", "/no/such/source", ("rbind",))
    with pytest.raises(StartError, match=r'error mounting "/no/such/source" to rootfs at "/m": .*no such file'):
        bundle.create(replace(spec, mounts=(*spec.mounts, mount)))


def test_the_root_by_move_instead_of_pivot(bundle: Bundle) -> None:
    """Without pivot_root no whole proc or sysfs of the host stays in reach, and the root is the container's."""
    spec = bundle.spec("sh", "-c", "ls /; cat /proc/self/mountinfo")
    status, out, err = bundle.run(spec, no_pivot=True)
    assert status == 0, err
    assert set(out.splitlines()) >= {"bin", "etc", "proc"}
    assert "boot" not in out.splitlines()
    full = [line.split()[4] for line in out.splitlines() if " - proc " in line and line.split()[3] == "/"]
    assert full == ["/proc"]


def test_monotonic_and_boot_time_have_offsets(bundle: Bundle) -> None:
    spec = bundle.spec("cat", "/proc/self/timens_offsets")
    assert spec.linux is not None
    linux = replace(
        spec.linux,
        namespaces=(*spec.linux.namespaces, Namespace("time")),
        time_offsets={"monotonic": TimeOffset(7200, 5), "boottime": TimeOffset(-60)},
    )
    status, out, err = bundle.run(replace(spec, linux=linux))
    assert status == 0, err
    assert [line.split() for line in out.splitlines()] == [["monotonic", "7200", "5"], ["boottime", "-60", "0"]]


@pytest.mark.parametrize("clock", ["realtime", ""])
def test_clocks_without_offsets(bundle: Bundle, clock: str) -> None:
    spec = bundle.spec(linux={"time_offsets": {clock: TimeOffset(1)}})
    assert spec.linux is not None
    spec = replace(spec, linux=replace(spec.linux, namespaces=(*spec.linux.namespaces, Namespace("time"))))
    with pytest.raises(errdefs.InvalidArgument, match=r"linux\.timeOffsets"):
        bundle.create(spec)


@pytest.fixture
def device() -> Iterator[str]:
    """One end of a veth pair, in the network namespace of the test."""
    name, peer = f"rqa{os.getpid()}", f"rqb{os.getpid()}"
    try:
        subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs ip and veth")
    subprocess.run(["ip", "address", "add", "192.0.2.7/24", "dev", name], check=True)
    yield name
    with netlink.RtNetlink() as rt:  # it goes with its peer, when the kernel has ended that one's namespace
        rt.transact([netlink.del_link(peer, ignore=frozenset({errno.ENODEV}))])


def test_network_devices_move_in_with_their_addresses(bundle: Bundle, device: str, tmp_path: Path) -> None:
    """They are there before the hooks run, and up."""
    spec = bundle.spec("sh", "-c", "cat /proc/net/dev /proc/net/fib_trie; cat /sys/class/net/inside/flags")
    assert spec.linux is not None
    seen = Hook("/bin/sh", ("sh", "-c", f"ip link show dev {device} > {tmp_path}/hook 2>&1; true"))
    linux = replace(spec.linux, net_devices={device: NetDevice("inside")})
    status, out, err = bundle.run(replace(spec, linux=linux, hooks=Hooks(create_runtime=(seen,))))
    assert status == 0, err
    assert "inside:" in out
    assert "192.0.2.7" in out
    assert int(out.split()[-1], 16) & 1  # IFF_UP
    hook = (tmp_path / "hook").read_text()
    assert "does not exist" in hook or "can't find device" in hook


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ({"rq-none0": NetDevice()}, "moving network device rq-none0: no such device"),
        ({"a/b": NetDevice()}, r"linux\.netDevices: 'a/b' is no name"),
        ({"lo": NetDevice("much-too-long-a-name")}, r"linux\.netDevices: 'much-too-long-a-name' is no name"),
        ({"rq0": NetDevice("x"), "rq1": NetDevice("x")}, r"linux\.netDevices: 'x' is given twice"),
    ],
)
def test_network_devices_that_cannot_move(bundle: Bundle, devices: dict[str, NetDevice], text: str) -> None:
    with pytest.raises(errdefs.Error, match=text):
        bundle.create(bundle.spec(linux={"net_devices": devices}))


def test_network_devices_need_a_namespace(bundle: Bundle) -> None:
    kinds = tuple(Namespace(t) for t in ("mount", "pid", "ipc", "uts"))
    with pytest.raises(errdefs.InvalidArgument, match=r"linux\.netDevices needs a network namespace"):
        bundle.create(bundle.spec(linux={"net_devices": {"lo": NetDevice("x")}, "namespaces": kinds}))


def test_the_mounted_cgroup_filesystem_is_read_only_when_asked(bundle: Bundle) -> None:
    made = bundle.create(bundle.spec("sh", "-c", "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x; true"))
    made.start()
    wait(made.pid)
    for directory in made.record.groups.values():
        assert not os.path.exists(f"{directory}/x")


@pytest.mark.parametrize("offsets", [None, {"boottime": TimeOffset(5)}])
def test_a_time_namespace_is_the_containers_own(bundle: Bundle, offsets: dict[str, TimeOffset] | None) -> None:
    spec = bundle.spec("readlink", "/proc/self/ns/time")
    assert spec.linux is not None
    linux = replace(spec.linux, namespaces=(*spec.linux.namespaces, Namespace("time")), time_offsets=offsets)
    status, out, err = bundle.run(replace(spec, linux=linux))
    assert status == 0, err
    assert out.strip() != os.readlink("/proc/self/ns/time")
