"""Flags of `run` and `create` that open or close what surrounds the container: seen from inside it."""

import json
import os
import re
from pathlib import Path

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.verbs import both, shell, started

pytestmark = pytest.mark.root


def own(kind: str) -> str:
    """The host's namespace of that kind."""
    return os.readlink(f"/proc/self/ns/{kind}")


def effective(text: str) -> int:
    return int(re.search(r"CapEff:\s*([0-9a-f]+)", text)[1], 16)  # type: ignore[index]


@covers(*both("cap-add", "cap-drop", "privileged"))
def test_capabilities(cli: Cli, verb: str) -> None:
    flags = ("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "CAP_CHOWN")
    assert effective(shell(cli, verb, "cat /proc/self/status", *flags).out) == 1 << 12 | 1 << 0
    script = "cat /proc/self/status; ls /dev; mount -t tmpfs t /mnt || mount -t tmpfs t /tmp"
    host = effective(Path("/proc/self/status").read_text())
    out = shell(cli, verb, script, "--privileged").out
    assert effective(out) == host and "Seccomp:\t0" in out and len(out.split()) > 60
    assert shell(cli, verb, script, code=None).code != 0
    refused = cli(verb, "--cap-add", "ODD", "busybox", "true", code=None)
    assert refused.code and "ODD" in refused.err


@covers(*both("security-opt"))
def test_security_options(cli: Cli, verb: str, tmp_path: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    script = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; mkdir /tmp/d; ls -d /tmp/d; wc -c </proc/timer_list"
    flags = lambda *values: [word for value in values for word in ("--security-opt", value)]  # noqa: E731
    plain = shell(cli, verb, script, code=None)
    assert plain.out.split() == ["NoNewPrivs:", "0", "Seccomp:", "2", "/tmp/d", "0"]
    free = shell(cli, verb, script, *flags("seccomp=unconfined", "no-new-privileges", "systempaths=unconfined"), code=0)
    assert free.out.split()[:5] == ["NoNewPrivs:", "1", "Seccomp:", "0", "/tmp/d"] and free.out.split()[5] != "0"
    shut = shell(cli, verb, script, *flags(f"seccomp={tmp_path}/profile.json"), code=None)
    assert "Seccomp:\t2" in shut.out and "can't create directory '/tmp/d': Operation not permitted" in shut.err
    refused = cli(verb, *flags("odd=1"), "busybox", "true", code=None)
    assert refused.code and "odd" in refused.err


@covers(*both("pid", "ipc", "uts", "userns", "cgroupns"))
def test_namespaces_are_own_the_hosts_or_anothers(cli: Cli, engine: Engine, verb: str) -> None:
    kinds = ("pid", "ipc", "uts", "cgroup", "user")
    read = "for k in pid ipc uts cgroup user; do readlink /proc/self/ns/$k; done"
    host = dict(zip(kinds, map(own, kinds), strict=True))
    at = lambda *flags: dict(zip(kinds, shell(cli, verb, read, *flags).out.split(), strict=True))  # noqa: E731
    alone = at("--cgroupns", "private", "--userns", "host")
    assert {kind for kind in kinds if alone[kind] == host[kind]} == {"user"}
    shared = at("--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host")
    assert shared == host
    donor = ("--ipc", "shareable")
    started(cli, verb, "donor", *donor)
    pid = engine.inspect("donor")["State"]["Pid"]
    joined = at("--pid", "container:donor", "--ipc", "container:donor")
    assert {kind: joined[kind] for kind in ("pid", "ipc")} == {
        kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "ipc")
    }
    for flag, value in (("pid", "odd"), ("ipc", "odd"), ("uts", "odd"), ("userns", "odd"), ("cgroupns", "odd")):
        refused = cli(verb, f"--{flag}", value, "busybox", "true", code=None)
        assert refused.code and "invalid" in refused.err.lower() and flag[:3] in refused.err.lower(), refused


@covers(*both("device", "device-cgroup-rule", "gpus"))
def test_devices(cli: Cli, verb: str) -> None:
    opened = "(: </dev/mine) && echo read; (: >/dev/mine) && echo written"
    assert shell(cli, verb, opened, "--device", "/dev/fuse:/dev/mine:r", code=None).out.split() == ["read"]
    assert shell(cli, verb, opened, "--device", "/dev/fuse:/dev/mine:w", code=None).out.split() == ["written"]
    assert shell(cli, verb, opened, "--device", "/dev/fuse:/dev/mine").out.split() == ["read", "written"]
    node = "mknod /tmp/fuse c 10 229; (: </tmp/fuse) && echo read; (: >/tmp/fuse) && echo written"
    assert shell(cli, verb, node, code=None).out == ""
    assert shell(cli, verb, node, "--device-cgroup-rule", "c 10:229 r", code=None).out.split() == ["read"]
    if verb == "run":
        text = 'could not select device driver "" with capabilities: [[gpu]]'
        assert text in cli("run", "--gpus", "all", "busybox", "true", code=125).err
    else:
        cli("create", "--name", "player", "--gpus", "all", "busybox", "true")
        assert "could not select device driver" in cli("start", "player", code=1).err


@covers(*both("read-only", "storage-opt"))
def test_the_root(cli: Cli, engine: Engine, verb: str) -> None:
    result = shell(cli, verb, "touch /no", "--read-only", code=1)
    assert "Read-only file system" in result.err
    # This snapshotter cannot bound a container, and says so as dockerd does.
    refused = cli(verb, "--storage-opt", "size=64m", "busybox", "true", code=None)
    assert (
        refused.code and "storage-opt is supported only for overlay over xfs with 'pquota' mount option" in refused.err
    )
