"""A service as the API takes it: every attribute arrives where Docker has it."""

from typing import Any

import pytest
from support.composeproject import IMAGE, make

from rorqual.compose import containers, labels
from rorqual.compose.containers import Surroundings
from rorqual.errdefs import InvalidArgument

AROUND = Surroundings("sha256:1", lambda name: f"id-of-{name}", lambda name: [f"it-{name}-1"])


def body(around: Surroundings = AROUND, **service: Any) -> dict[str, Any]:
    project = make(
        {"web": {**IMAGE, **service}, "db": IMAGE},
        networks={"front": {}, "back": {"name": "real"}},
        volumes={"data": None},
        secrets={"s": {"file": "/s"}, "e": {"environment": "E"}},
        configs={"c": {"content": "x"}},
    )
    return containers.body(project, "web", project.services["web"], around, own={labels.NUMBER: "1"})


@pytest.mark.parametrize(
    ("service", "path", "expected"),
    [
        ({"command": "a b"}, "Cmd", ["a", "b"]),
        ({"entrypoint": []}, "Entrypoint", [""]),
        ({"environment": {"A": 1}}, "Env", ["A=1"]),
        ({"expose": ["80", "90-91/udp"]}, "ExposedPorts", {"80/tcp": {}, "90/udp": {}, "91/udp": {}}),
        ({"tty": True}, "Tty", True),
        ({"stdin_open": True}, "OpenStdin", True),
        ({"stop_grace_period": "1500ms"}, "StopTimeout", 2),
        ({"stop_signal": "USR1"}, "StopSignal", "USR1"),
        ({"user": 5}, "User", "5"),
        ({"healthcheck": {"disable": True}}, "Healthcheck", {"Test": ["NONE"]}),
        (
            {"healthcheck": {"test": "t", "interval": "1s", "retries": 2, "start_interval": "1ms"}},
            "Healthcheck",
            {"Test": ["CMD-SHELL", "t"], "Interval": 10**9, "Retries": 2, "StartInterval": 10**6},
        ),
        (
            {"ports": ["127.0.0.1:8080:80", "80"]},
            "HostConfig.PortBindings",
            {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": ""}]},
        ),
        ({"network_mode": "service:db"}, "HostConfig.NetworkMode", "container:id-of-db"),
        ({"ipc": "service:db"}, "HostConfig.IpcMode", "container:id-of-db"),
        ({"pid": "host"}, "HostConfig.PidMode", "host"),
        ({"volumes_from": ["db:ro", "container:x"]}, "HostConfig.VolumesFrom", ["id-of-db:ro", "x"]),
        ({"volumes": ["./x:/v:ro,z"]}, "HostConfig.Binds", ["/p/x:/v:ro,z"]),
        (
            {"volumes": ["data:/v"]},
            "HostConfig.Mounts",
            [
                {
                    "Type": "volume",
                    "Source": "it_data",
                    "Target": "/v",
                    "ReadOnly": False,
                    "VolumeOptions": {"NoCopy": False},
                }
            ],
        ),
        (
            {"volumes": [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1k"}}]},
            "HostConfig.Mounts",
            [{"Type": "tmpfs", "Target": "/t", "ReadOnly": False, "TmpfsOptions": {"SizeBytes": 1024, "Mode": 0}}],
        ),
        (
            {"secrets": ["s", "e"], "configs": ["c"]},
            "HostConfig.Mounts",
            [
                {
                    "Type": "bind",
                    "Source": "/s",
                    "Target": "/run/secrets/s",
                    "ReadOnly": True,
                    "BindOptions": {"CreateMountpoint": False},
                }
            ],
        ),
        ({"restart": "on-failure:3"}, "HostConfig.RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
        (
            {"deploy": {"restart_policy": {"condition": "any"}}},
            "HostConfig.RestartPolicy",
            {"Name": "always", "MaximumRetryCount": 0},
        ),
        (
            {"restart": "always", "deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 2}}},
            "HostConfig.RestartPolicy",
            {"Name": "on-failure", "MaximumRetryCount": 2},
        ),
        (
            {"volumes": [{"type": "bind", "source": "/s", "target": "/t", "bind": {"recursive": "disabled"}}]},
            "HostConfig.Mounts",
            [
                {
                    "Type": "bind",
                    "Source": "/s",
                    "Target": "/t",
                    "ReadOnly": False,
                    "BindOptions": {"CreateMountpoint": True, "NonRecursive": True},
                }
            ],
        ),
        (
            {"devices": ["vendor.com/gpu=0"]},
            "HostConfig.DeviceRequests",
            [{"Driver": "cdi", "DeviceIDs": ["vendor.com/gpu=0"]}],
        ),
        ({"mem_limit": "1m", "deploy": {"resources": {"limits": {"memory": "2m"}}}}, "HostConfig.Memory", 2 << 20),
        ({"cpus": 0.5}, "HostConfig.NanoCpus", 500_000_000),
        ({"pids_limit": 9}, "HostConfig.PidsLimit", 9),
        ({"ulimits": {"nofile": 5}}, "HostConfig.Ulimits", [{"Name": "nofile", "Soft": 5, "Hard": 5}]),
        (
            {"devices": ["/dev/null:/dev/x:r"]},
            "HostConfig.Devices",
            [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
        ),
        (
            {"gpus": [{"device_ids": ["0"]}]},
            "HostConfig.DeviceRequests",
            [{"Driver": "", "Count": 0, "DeviceIDs": ["0"], "Capabilities": [["gpu"]], "Options": {}}],
        ),
        ({"tmpfs": ["/t:size=1m", "/u"]}, "HostConfig.Tmpfs", {"/t": "size=1m", "/u": ""}),
        ({"extra_hosts": ["h:host-gateway"]}, "HostConfig.ExtraHosts", ["h:host-gateway"]),
        ({"logging": {"driver": "none"}}, "HostConfig.LogConfig", {"Type": "none", "Config": {}}),
        ({"sysctls": ["a=1"]}, "HostConfig.Sysctls", {"a": "1"}),
        ({"privileged": True}, "HostConfig.Privileged", True),
        ({"read_only": True}, "HostConfig.ReadonlyRootfs", True),
        ({"init": True}, "HostConfig.Init", True),
        ({"shm_size": "1m"}, "HostConfig.ShmSize", 1 << 20),
        ({"security_opt": ["no-new-privileges:true"]}, "HostConfig.SecurityOpt", ["no-new-privileges=true"]),
        ({"security_opt": ["no-new-privileges"]}, "HostConfig.SecurityOpt", ["no-new-privileges"]),
        ({"blkio_config": {"weight": 10}}, "HostConfig.BlkioWeight", 10),
        ({}, "HostConfig.NetworkMode", "it_default"),
        ({}, "NetworkingConfig.EndpointsConfig", {"it_default": {"Aliases": ["web"]}}),
        ({"networks": {"front": {"priority": 1}, "back": {"priority": 2}}}, "HostConfig.NetworkMode", "real"),
        (
            {
                "networks": {"front": {"aliases": ["x"], "ipv4_address": "1.2.3.4", "interface_name": "e7"}},
                "links": ["db", "db:alias"],
                "external_links": ["far:near"],
            },
            "NetworkingConfig.EndpointsConfig",
            {
                "it_front": {
                    "Aliases": ["web", "x"],
                    "IPAMConfig": {"IPv4Address": "1.2.3.4"},
                    "DriverOpts": {"com.docker.network.endpoint.ifname": "e7"},
                    "Links": ["it-db-1:db", "it-db-1:db-1", "it-db-1:it-db-1", "it-db-1:alias", "far:near"],
                }
            },
        ),
    ],
)
def test_where_it_arrives(service: dict[str, Any], path: str, expected: Any) -> None:
    found: Any = body(**service)
    for key in path.split("."):
        found = found[key]
    assert found == expected


def test_labels_tell_all_that_finds_it_again() -> None:
    own = body(labels={"mine": "1"}, depends_on=["db"])["Labels"]
    assert own["mine"] == "1" and own[labels.PROJECT] == "it" and own[labels.SERVICE] == "web"
    assert own[labels.DEPENDS_ON] == "db:service_started:false" and own[labels.IMAGE] == "sha256:1"
    assert own[labels.CONFIG_FILES] == "/p/f" and own[labels.WORKING_DIR] == "/p" and own[labels.NUMBER] == "1"


def test_what_was_at_a_path_stays_there() -> None:
    around = Surroundings("", lambda name: "", lambda name: [], {"/anonymous": "v1", "/image": "v2", "/named": "v3"})
    mounts = body(around, volumes=["/anonymous", "data:/named"])["HostConfig"]["Mounts"]
    assert {m["Target"]: m["Source"] for m in mounts} == {"/anonymous": "v1", "/named": "it_data", "/image": "v2"}


@pytest.mark.parametrize(
    ("service", "told"),
    [
        ({"healthcheck": {"test": ["x"]}}, "must start either by"),
        ({"expose": ["x"]}, "invalid expose: x"),
        ({"expose": ["1-3000000"]}, "invalid expose: 1-3000000"),
        ({"pre_start": [{"command": "x"}]}, 'service "web": pre_start is not supported'),
        ({"use_api_socket": True}, "use_api_socket is not supported"),
        ({"cpu_rt_period": ""}, "invalid duration"),
        ({"security_opt": ["seccomp:none.json"]}, r"opening seccomp profile \(none\.json\) failed"),
        ({"volumes": [{"type": "cluster", "source": "data", "target": "/x"}]}, "unsupported volume type cluster"),
    ],
)
def test_what_cannot_be(service: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        body(**service)
