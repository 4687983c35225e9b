"""config.json as data: what is read is written again, and every wrong member is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.errdefs import InvalidArgument
from rorqual.oci import defaults
from rorqual.oci.runtime import Linux, Namespace, Process, Resources, Root, Spec


def test_round_trip_of_a_docker_like_spec() -> None:
    spec = Spec(
        process=Process(args=("sh",), env=(defaults.PATH_ENV,)),
        root=Root("rootfs", True),
        mounts=defaults.MOUNTS,
        linux=Linux(
            namespaces=(Namespace("pid"), Namespace("network", "/run/netns/x")),
            resources=Resources(devices=defaults.DEVICE_RULES),
            seccomp=defaults.default_seccomp(defaults.CAPABILITIES, "x86_64"),
        ),
    )
    assert Spec.from_json(spec.to_json()) == spec


def test_names_are_the_specs() -> None:
    document = {
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "noNewPrivileges": True, "oomScoreAdj": 5, "user": {"uid": 1, "gid": 2}},
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
            "cgroupsPath": "/x",
            "resources": {"memory": {"disableOOMKiller": True}, "blockIO": {"weight": 10}},
            "maskedPaths": ["/proc/keys"],
        },
    }
    assert json.loads(Spec.from_json(document).to_json()) == document


def test_unknown_members_and_nulls_are_ignored() -> None:
    assert Spec.from_json({"windows": {}, "linux": None, "x": 1}) == Spec()


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"process": {"user": {"uid": -1}}}, "process.user.uid"),
        ({"process": {"args": ["a", 1]}}, r"process.args\[1\]"),
        ({"process": {"args": ["a\0b"]}}, r"process.args\[0\]"),
        ({"process": {"env": ["\ud800"]}}, r"process.env\[0\]"),
        ({"linux": {"namespaces": [{}]}}, r"linux.namespaces\[0\].type"),
        ({"linux": {"resources": {"memory": {"limit": 1.5}}}}, "linux.resources.memory.limit"),
        ({"mounts": {}}, "mounts"),
        ({"annotations": {"a": 1}}, "annotations.a"),
        ({"root": {"path": "r", "readonly": "yes"}}, "root.readonly"),
        ({"hooks": {"poststop": [{"path": "/x", "timeout": 0}]}}, r"hooks.poststop\[0\].timeout"),
    ],
)
def test_the_wrong_member_is_named(document: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        Spec.from_json(document)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100000])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        Spec.from_json(data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["process", "user", "uid", "args", "env", "linux", "resources", "mounts", "root", "path", "type"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_json)
def test_nothing_but_invalid_argument_ever_comes_out(value: Any) -> None:
    try:
        spec = Spec.from_json(json.dumps({"process": value, "linux": value, "mounts": value}))
    except InvalidArgument:
        return
    assert Spec.from_json(spec.to_json()) == spec


def test_default_profile_follows_capabilities() -> None:
    plain = defaults.default_seccomp(defaults.CAPABILITIES, "amd64")
    allowed = {
        name for rule in plain.syscalls if not rule.args and rule.action == defaults.ALLOW for name in rule.names
    }
    assert not allowed & {
        "mount",
        "bpf",
        "unshare",
        "setns",
        "clone",
        "clone3",
        "keyctl",
        "add_key",
        "socket",
        "reboot",
    }
    assert {"chroot", "execve", "futex_wait", "arch_prctl"} <= allowed
    families = [(rule.args[0].op, rule.args[0].value) for rule in plain.syscalls if rule.names == ("socket",)]
    assert families == [("SCMP_CMP_LT", 38), ("SCMP_CMP_EQ", 39), ("SCMP_CMP_GT", 40)]
    admin = defaults.default_seccomp((*defaults.CAPABILITIES, "CAP_SYS_ADMIN"), "amd64")
    assert {"mount", "clone3", "unshare"} <= set(admin.syscalls[0].names)
