"""From flags to the body of ContainerCreate: grammars, defaults, and Docker's words for what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.cli.commands.container.run import COMMAND
from rorqual.cli.errors import CommandError, FlagError
from rorqual.cli.flags import FlagSet
from rorqual.cli.options import container, limits, mounts, networks
from rorqual.client import ports


def body(*args: str) -> dict[str, Any]:
    flags = FlagSet(COMMAND.flags, validators=COMMAND.validators, renamed=COMMAND.renamed, interspersed=False)
    values, rest = flags.parse(args)
    return container.body(values, rest[0], rest[1:])


def test_the_bare_run_is_dockers() -> None:
    got = body("busybox", "true")
    host = got.pop("HostConfig")
    assert got["Cmd"] == ["true"] and got["Image"] == "busybox" and got["Entrypoint"] is None
    assert (got["AttachStdin"], got["AttachStdout"], got["AttachStderr"]) == (False, True, True)
    assert host["NetworkMode"] == "default" and host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert host["MemorySwappiness"] == -1 and host["Memory"] == 0 and "Init" not in host
    assert got["NetworkingConfig"] == {"EndpointsConfig": {}}


def test_the_flags_of_the_first_goal_arrive() -> None:
    got = body(
        "-it", "--rm", "-e", "A=1", "-w", "/w", "-u", "1:2", "-v", "/a:/b:ro", "--tmpfs", "/t:size=1m", "-p", "80:8080",
        "-m", "64m", "--cpus", "1.5", "--pids-limit", "10", "--read-only", "--cap-add", "NET_ADMIN",
        "--cap-drop", "ALL", "--privileged", "--network", "host", "--hostname", "h",
        "--add-host", "a:1.2.3.4", "--dns", "8.8.8.8",
        "--entrypoint", "/e", "--label", "x=y", "--ulimit", "nofile=1:2", "--stop-signal", "USR1", "--init", "busybox",
    )  # fmt: skip
    host = got["HostConfig"]
    assert got["Tty"] and got["OpenStdin"] and got["StdinOnce"] and got["AttachStdin"]
    assert got["Env"] == ["A=1"] and got["WorkingDir"] == "/w" and got["User"] == "1:2"
    assert host["Binds"] == ["/a:/b:ro"] and host["Tmpfs"] == {"/t": "size=1m"}
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "", "HostPort": "80"}]}
    assert got["ExposedPorts"] == {"8080/tcp": {}}
    assert host["Memory"] == 64 << 20 and host["NanoCpus"] == 1_500_000_000 and host["PidsLimit"] == 10
    assert host["ReadonlyRootfs"] and host["Privileged"] and host["AutoRemove"] and host["Init"] is True
    assert host["CapAdd"] == ["NET_ADMIN"] and host["CapDrop"] == ["ALL"]
    assert host["NetworkMode"] == "host" and got["Hostname"] == "h" and host["ExtraHosts"] == ["a:1.2.3.4"]
    assert host["Dns"] == ["8.8.8.8"] and got["Entrypoint"] == ["/e"] and got["Labels"] == {"x": "y"}
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}] and got["StopSignal"] == "USR1"


def test_an_empty_entrypoint_resets_it() -> None:
    assert body("--entrypoint=", "busybox")["Entrypoint"] == [""]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--rm", "--restart", "always"], "conflicting options: cannot specify both --restart and --rm"),
        (["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts with --health-* options"),
        (["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (["--pid", "foo"], "--pid: invalid PID mode"),
        (["--memory-swappiness", "101"], "invalid value: 101. Valid memory swappiness range is 0-100"),
        (["--mac-address", "foo"], "foo is not a valid mac address"),
        (["--log-driver", "none", "--log-opt", "a=b"], "invalid logging opts for driver none"),
        (["--storage-opt", "x"], "invalid storage option"),
        (["--network-alias", "x"], "network-scoped aliases are only supported for user-defined networks"),
        (["--network", "a", "--network", "a"], 'network "a" is specified multiple times'),
        (["-p", "99999:1"], "invalid hostPort: 99999"),
        (["--device", "a:b:c:d"], "bad format for path: a:b:c:d"),
        (["--restart", "on-failure:x"], "invalid restart policy format: maximum retry count must be an integer"),
        (
            ["--network", "a", "--network", "host"],
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
    ],
)
def test_contradictions_have_dockers_words(args: list[str], text: str) -> None:
    with pytest.raises(CommandError) as caught:
        body(*args, "busybox")
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "args",
    [
        ["--ulimit", "foo=1"],
        ["--mount", "type=bind"],
        ["-a", "foo"],
        ["--dns", "x"],
        ["-l", ""],
        ["--blkio-weight", "70000"],
    ],
)
def test_unreadable_values_are_flag_errors(args: list[str]) -> None:
    with pytest.raises(FlagError, match="invalid argument"):
        body(*args, "busybox")


def test_files_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "yes")
    monkeypatch.delenv("NOT_HERE", raising=False)
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbf# comment\nA=1\n\n  B = 2\r\nFROM_HERE\nNOT_HERE\n".replace(b"B = 2", b"B= 2"))
    assert body("--env-file", str(file), "-e", "C=3", "busybox")["Env"] == ["A=1", "B= 2", "FROM_HERE=yes", "C=3"]
    file.write_text("has space=1\n")
    with pytest.raises(CommandError, match="variable 'has space' contains whitespaces"):
        body("--env-file", str(file), "busybox")
    with pytest.raises(CommandError, match=r"open /no/such: no such file or directory"):
        body("--env-file", "/no/such", "busybox")


def test_a_seccomp_profile_is_sent_as_its_content(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    got = body("--security-opt", f"seccomp={profile}", "--security-opt", "systempaths=unconfined", "busybox")
    assert got["HostConfig"]["SecurityOpt"] == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']
    assert got["HostConfig"]["MaskedPaths"] == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80/udp", {"80/udp": [("", "8080")]}),
        ("127.0.0.1:8080:80", {"80/tcp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("8000-8001:80-81", {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("8000-8009:80", {"80/tcp": [("", "8000-8009")]}),
        ("published=1,target=2,protocol=udp", {"2/udp": [("", "1")]}),
    ],
)
def test_published_ports(spec: str, expected: dict[str, list[tuple[str, str]]]) -> None:
    exposed, bindings = ports.parse_publish([spec])
    assert {k: [(b["HostIp"], b["HostPort"]) for b in v] for k, v in bindings.items()} == expected
    assert set(exposed) == set(expected)


@given(st.text(alphabet="0123456789:-/.[]tcpx=", max_size=16))
def test_any_port_spec_is_read_or_refused(spec: str) -> None:
    try:
        ports.parse_publish([spec])
    except ValueError:
        return


def test_expose_takes_ranges() -> None:
    assert ports.parse_expose(["80", "90-91/UDP"]) == ["80/tcp", "90/udp", "91/udp"]


def test_mounts() -> None:
    assert mounts.parse_mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave") == {
        "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"},
    }  # fmt: skip
    assert mounts.parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770")["TmpfsOptions"] == {
        "SizeBytes": 1 << 20,
        "Mode": 0o1770,
    }
    got = mounts.parse_mount("source=v,target=/v,volume-label=a=b,volume-driver=d,volume-opt=o=1,volume-nocopy")
    assert got["Type"] == "volume" and got["VolumeOptions"]["NoCopy"]
    assert got["VolumeOptions"]["DriverConfig"] == {"Name": "d", "Options": {"o": "1"}}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,source=/a", "target is required"),
        ("type=bind,target=/a,foo=1", "unknown option 'foo' in 'foo=1'"),
        ("type=bind,target=/a,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("type=bind,target=", "invalid value for 'target': value is empty"),
    ],
)
def test_bad_mounts(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        mounts.parse_mount(text)
    assert str(caught.value) == error


def test_volumes_split_into_binds_and_anonymous() -> None:
    binds, anonymous = mounts.split_volumes(["/data", "name:/x", "./rel:/y:ro"])
    assert binds == ["name:/x", f"{Path.cwd()}/rel:/y:ro"] and anonymous == {"/data": {}}


def test_networks_by_pairs() -> None:
    got = body("--network", "name=n,alias=a,ip=10.0.0.5,driver-opt=k=v,gw-priority=3", "busybox")
    assert got["HostConfig"]["NetworkMode"] == "n"
    assert got["NetworkingConfig"]["EndpointsConfig"]["n"] == {
        "Aliases": ["a"], "DriverOpts": {"k": "v"}, "IPAMConfig": {"IPv4Address": "10.0.0.5"}, "GwPriority": 3,
    }  # fmt: skip


def test_extra_hosts() -> None:
    assert networks.parse_extra_host("a=[::1]") == "a:::1"
    assert networks.parse_extra_host("a:host-gateway") == "a:host-gateway"
    with pytest.raises(ValueError, match="invalid IP address in add-host"):
        networks.parse_extra_host("a:b")


def test_gpus() -> None:
    assert networks.parse_gpus("all")["Count"] == -1
    assert networks.parse_gpus('"device=1,2"')["DeviceIDs"] == ["1", "2"]


def test_limits() -> None:
    assert limits.parse_throttle_bps("/dev/sda:1mb") == {"Path": "/dev/sda", "Rate": 1 << 20}
    assert limits.parse_weight_device("/dev/sda:100") == {"Path": "/dev/sda", "Weight": 100}
    assert limits.parse_restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    with pytest.raises(ValueError, match="soft limit must be less than or equal to hard limit"):
        limits.parse_ulimit("nofile=3:2")


def test_the_body_is_json() -> None:
    json.dumps(body("--gpus", "all", "--mount", "type=tmpfs,dst=/x", "--device", "/dev/null", "busybox"))
