"""From Docker's configuration to the runtime-spec."""

import json

import pytest

from rorqual.api.config import ContainerConfig, DeviceMapping, HostConfig, Mount, Ulimit
from rorqual.daemon.spec import builder, capabilities, devices, merge, mounts, resources, security
from rorqual.errdefs import InvalidArgument
from rorqual.oci import defaults
from rorqual.oci.image import ContainerConfig as ImageConfig


def inputs(config=None, host=None, **more):
    given = {
        "id": "a" * 64,
        "config": config or ContainerConfig(),
        "host": host or HostConfig(),
        "path": "true",
        "args": (),
        "hostname": "h",
        "mounts": (),
        "cgroup_parent": "/rorqual",
        "cgroup_driver": "cgroupfs",
    }
    return builder.Inputs(**{**given, **more})


# ---- merge ----


def test_the_users_command_replaces_the_images_but_keeps_its_entrypoint():
    image = ImageConfig(entrypoint=("e",), cmd=("c",))
    assert merge.command(merge.merge(ContainerConfig(cmd=("x",)), image)) == ("e", ("x",))


def test_the_users_entrypoint_drops_the_images_command():
    image = ImageConfig(entrypoint=("e",), cmd=("c",))
    assert merge.command(merge.merge(ContainerConfig(entrypoint=("mine",)), image)) == ("mine", ())


def test_an_empty_entrypoint_resets_it():
    image = ImageConfig(entrypoint=("e",), cmd=("c",))
    assert merge.command(merge.merge(ContainerConfig(entrypoint=("",), cmd=("x",)), image)) == ("x", ())


def test_no_command_at_all_is_refused():
    with pytest.raises(InvalidArgument, match="no command specified"):
        merge.merge(ContainerConfig(), ImageConfig())


def test_environment_is_merged_by_name():
    merged = merge.merge(ContainerConfig(env=("A=1",), cmd=("x",)), ImageConfig(env=("A=0", "B=2")))
    assert merged.env == ("A=1", "B=2")
    shown = merge.environment(merged, "host")
    assert defaults.PATH_ENV in shown
    assert "HOSTNAME=host" in shown


def test_a_name_alone_unsets_a_variable():
    assert not any(e.startswith("HOSTNAME") for e in merge.environment(ContainerConfig(env=("HOSTNAME",)), "h"))


# ---- capabilities ----


def test_default_capabilities_are_dockers():
    assert set(capabilities.effective((), (), privileged=False)) == set(defaults.CAPABILITIES)


def test_dropping_all_and_adding_one_leaves_one():
    assert capabilities.effective(("net_admin",), ("ALL",), privileged=False) == ("CAP_NET_ADMIN",)


def test_adding_all_but_one():
    found = capabilities.effective(("all",), ("sys_admin",), privileged=False)
    assert "CAP_SYS_ADMIN" not in found
    assert len(found) == len(capabilities.known()) - 1


def test_an_unknown_capability_is_named():
    with pytest.raises(InvalidArgument, match="CHOWNN"):
        capabilities.effective(("CHOWNN",), (), privileged=False)


# ---- mounts ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a:/b", ("bind", "/a", "/b", True)),
        ("/a:/b:ro", ("bind", "/a", "/b", False)),
        ("vol:/b:ro,nocopy", ("volume", "vol", "/b", False)),
        ("/b", ("volume", "", "/b", True)),
    ],
)
def test_binds(text, expected):
    wish = mounts.parse_bind(text)
    assert (wish.kind, wish.source, wish.target, wish.writable) == expected


@pytest.mark.parametrize(
    "text", ["/a:/b:ro,rw", "/a:/b:what", "/a:b", "/a:/", "a b:/c", ":/c", "/a:/b:/c:/d", "/a:/b:"]
)
def test_bad_binds_are_refused(text):
    with pytest.raises(InvalidArgument):
        mounts.parse_bind(text)


def test_a_target_given_twice_is_refused():
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /b"):
        mounts.wanted(ContainerConfig(), HostConfig(binds=("/a:/b", "/c:/b")))


def test_a_mount_of_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="bind source path does not exist"):
        mounts.wanted(ContainerConfig(), HostConfig(mounts=(Mount("bind", str(tmp_path / "no"), "/b"),)))


def test_tmpfs_is_nosuid_nodev_noexec_unless_said_otherwise():
    wish = mounts.wanted(ContainerConfig(), HostConfig(tmpfs={"/t": "exec,size=1m"}))[0]
    assert wish.tmpfs == ("nosuid", "nodev", "exec", "size=1m")
    with pytest.raises(InvalidArgument, match="Invalid tmpfs option"):
        mounts.wanted(ContainerConfig(), HostConfig(tmpfs={"/t": "lowerdir=/"}))


# ---- resources ----


@pytest.mark.parametrize(
    ("host", "text"),
    [
        (HostConfig(memory=1024), "Minimum memory limit allowed is 6MB"),
        (HostConfig(memory=64 << 20, memory_swap=1 << 20), "Minimum memoryswap limit"),
        (HostConfig(memory_swap=64 << 20), "You should always set the Memory limit"),
        (HostConfig(nano_cpus=10**15), "range of CPUs is from 0.01"),
        (HostConfig(nano_cpus=10**9, cpu_quota=5000), "Conflicting options"),
        (HostConfig(cpuset_cpus="0-99999999999"), "Invalid value"),
        (HostConfig(ulimits=(Ulimit("nope", 1, 1),)), "invalid ulimit type: nope"),
        (HostConfig(ulimits=(Ulimit("nofile", 1, 2),)), "soft limit must be less"),
        (HostConfig(oom_score_adj=2000), "range for oom score adj"),
    ],
)
def test_limits_that_make_no_sense_are_refused_in_dockers_words(host, text):
    with pytest.raises(InvalidArgument, match=text):
        resources.check(host)


def test_swap_is_twice_the_memory_and_cpus_become_a_quota():
    checked = resources.check(HostConfig(memory=64 << 20, nano_cpus=500_000_000))
    made = resources.resources(checked, ())
    assert made.memory.swap == 128 << 20
    assert (made.cpu.quota, made.cpu.period) == (50_000, 100_000)


# ---- security ----


@pytest.mark.parametrize("option", ["foo", "seccomp", "no-new-privileges:maybe", "what=ever"])
def test_unknown_security_options_are_refused(option):
    with pytest.raises(InvalidArgument, match="invalid --security-opt"):
        security.parse((option,))


def test_a_profile_in_dockers_format_keeps_rules_by_capability():
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    }
    options = security.parse((f"seccomp={json.dumps(profile)}",))
    found = security.seccomp_profile(options, ("CAP_CHOWN",))
    assert [n for rule in found.syscalls for n in rule.names] == ["read", "clone"]


def test_a_broken_profile_is_refused():
    with pytest.raises(InvalidArgument, match="Decoding seccomp profile failed"):
        security.seccomp_profile(security.parse(("seccomp={",)), ())


# ---- the whole ----


def test_a_default_container_is_confined():
    spec = builder.build(inputs())
    assert {n.type for n in spec.linux.namespaces} == {"mount", "uts", "network", "ipc", "pid"}
    assert spec.linux.seccomp is not None
    assert spec.linux.masked_paths == defaults.MASKED_PATHS
    assert spec.linux.resources.devices[0].allow is False
    assert spec.linux.cgroups_path == "/rorqual/" + "a" * 64
    assert spec.process.capabilities.inheritable == ()


def test_a_privileged_one_is_not():
    spec = builder.build(inputs(host=HostConfig(privileged=True)))
    assert spec.linux.seccomp is None
    assert spec.linux.masked_paths == ()
    assert any(m.destination == "/sys" and "rw" in m.options for m in spec.mounts)


def test_a_cgroup_parent_cannot_climb():
    with pytest.raises(InvalidArgument):
        builder.build(inputs(host=HostConfig(cgroup_parent="../..")))


def test_systemd_groups_are_named_by_slice_prefix_and_name():
    def path(parent: str) -> str:
        given = inputs(host=HostConfig(cgroup_parent=parent), cgroup_parent="system.slice", cgroup_driver="systemd")
        return builder.build(given).linux.cgroups_path

    assert path("") == f"system.slice:docker:{inputs().id}"
    assert path("my.slice") == f"my.slice:docker:{inputs().id}"
    for bad in ("/my", "my", ".slice", "a/b.slice"):
        with pytest.raises(InvalidArgument, match="should be a valid slice named"):
            path(bad)


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "net.x/../../kernel"])
def test_sysctls_of_the_host_are_refused(name):
    host = HostConfig(sysctls={name: "1"}, network_mode="host")
    with pytest.raises(InvalidArgument):
        builder.check_sysctls(host)


def test_a_device_that_is_not_one_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="error gathering device information"):
        devices.mapped(DeviceMapping(str(tmp_path / "no")))
    assert devices.mapped(DeviceMapping("/dev/null", "/dev/x", "r"))[1][0].access == "r"


def test_hosts_and_hostname_are_bound_unless_the_user_mounts_there():
    files = {"hostname_file": "/d/hostname", "hosts_file": "/d/hosts", "resolv_file": "/d/resolv.conf"}
    spec = builder.build(inputs(**files))
    assert {m.destination for m in spec.mounts} >= {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
