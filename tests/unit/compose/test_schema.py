"""The canonical forms of a service's attributes. Source: Compose Specification, "Services"."""

from typing import Any

import pytest

from rorqual.compose import schema
from rorqual.compose.kinds import duration_text, settled
from rorqual.errdefs import InvalidArgument

PORT = {"mode": "ingress", "protocol": "tcp"}
EVERYWHERE = {**PORT, "target": 80, "published": "80", "host_ip": "0.0.0.0"}


def canon(**service: Any) -> dict[str, Any]:
    found: dict[str, Any] = schema.SERVICE.canon(service, "services.web", "/base")
    return found


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("command", "echo 'a b' c", ["echo", "a b", "c"]),
        ("command", ["x", 1, True], ["x", "1", "true"]),
        ("command", None, None),
        ("entrypoint", [], []),
        ("environment", ["A=1", "B", "C=x=y"], {"A": "1", "B": None, "C": "x=y"}),
        ("environment", {"A": 1, "B": None, "C": True, "D": 1.0}, {"A": "1", "B": None, "C": "true", "D": "1"}),
        ("labels", ["a=1", "b"], {"a": "1", "b": ""}),
        ("labels", {"a": 1, "b": None}, {"a": "1", "b": ""}),
        ("ports", ["80"], [{**PORT, "target": 80}]),
        (
            "ports",
            [80, "8080:81/udp"],
            [{**PORT, "target": 80}, {**PORT, "target": 81, "published": "8080", "protocol": "udp"}],
        ),
        (
            "ports",
            ["127.0.0.1:8000-8001:80-81"],
            [
                {**PORT, "target": 80, "published": "8000", "host_ip": "127.0.0.1"},
                {**PORT, "target": 81, "published": "8001", "host_ip": "127.0.0.1"},
            ],
        ),
        ("ports", ["8000-8005:80"], [{**PORT, "target": 80, "published": "8000-8005"}]),
        ("ports", ["[::1]:8000:80"], [{**PORT, "target": 80, "published": "8000", "host_ip": "::1"}]),
        ("ports", [{"target": "80", "published": 8080}], [{**PORT, "target": 80, "published": "8080"}]),
        ("volumes", ["/v"], [{"type": "volume", "target": "/v", "volume": {}}]),
        (
            "volumes",
            ["data:/v:ro,nocopy"],
            [{"type": "volume", "source": "data", "target": "/v", "read_only": True, "volume": {"nocopy": True}}],
        ),
        (
            "volumes",
            ["./x:/v/"],
            [{"type": "bind", "source": "/base/x", "target": "/v", "bind": {"create_host_path": True}}],
        ),
        (
            "volumes",
            ["/a/../b:/v:rw,z,rslave"],
            [
                {
                    "type": "bind",
                    "source": "/b",
                    "target": "/v",
                    "bind": {"selinux": "z", "propagation": "rslave", "create_host_path": True},
                }
            ],
        ),
        (
            "volumes",
            [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1m", "mode": "1777"}}],
            [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1048576", "mode": 0o1777}}],
        ),
        ("depends_on", ["a"], {"a": {"condition": "service_started", "required": True}}),
        (
            "depends_on",
            {"a": {"condition": "service_healthy", "restart": "true"}},
            {"a": {"condition": "service_healthy", "restart": True}},
        ),
        ("networks", ["a"], {"a": None}),
        (
            "networks",
            {"a": {"aliases": ["x"], "ipv4_address": "1.2.3.4"}, "b": None},
            {"a": {"aliases": ["x"], "ipv4_address": "1.2.3.4"}, "b": None},
        ),
        (
            "healthcheck",
            {"test": "true", "interval": "90s", "retries": "3"},
            {"test": ["CMD-SHELL", "true"], "interval": "1m30s", "retries": 3},
        ),
        ("healthcheck", {"test": ["CMD", "a"], "timeout": "1.5s"}, {"test": ["CMD", "a"], "timeout": "1.5s"}),
        ("build", ".", {"context": "/base"}),
        (
            "build",
            {"context": "https://x/y.git", "args": ["A=1", "B"]},
            {"context": "https://x/y.git", "args": {"A": "1", "B": None}},
        ),
        ("env_file", "a.env", [{"path": "/base/a.env"}]),
        (
            "env_file",
            [{"path": "b", "required": False, "format": "raw"}],
            [{"path": "/base/b", "required": False, "format": "raw"}],
        ),
        ("mem_limit", "64m", "67108864"),
        ("mem_limit", 5, "5"),
        ("memswap_limit", -1, "-1"),
        ("stop_grace_period", "1h", "1h0m0s"),
        (
            "ulimits",
            {"nofile": "10", "nproc": {"soft": 1, "hard": "2"}},
            {"nofile": 10, "nproc": {"soft": 1, "hard": 2}},
        ),
        ("extra_hosts", ["a:1.2.3.4", "b:::1"], ["a=1.2.3.4", "b=::1"]),
        ("extra_hosts", {"a": "1.2.3.4", "b": ["::1", "2.2.2.2"]}, ["a=1.2.3.4", "b=::1", "b=2.2.2.2"]),
        ("extra_hosts", ["a=1.1.1.1", "a=1.1.1.2"], ["a=1.1.1.1", "a=1.1.1.2"]),
        ("extra_hosts", ["a=[::1]", "h=host-gateway"], ["a=::1", "h=host-gateway"]),
        (
            "devices",
            ["/dev/a", "/dev/b:/dev/c:r"],
            [
                {"source": "/dev/a", "target": "/dev/a", "permissions": "rwm"},
                {"source": "/dev/b", "target": "/dev/c", "permissions": "r"},
            ],
        ),
        ("secrets", ["a", {"source": "b", "mode": 0o400}], [{"source": "a"}, {"source": "b", "mode": 0o400}]),
        ("dns", "1.1.1.1", ["1.1.1.1"]),
        ("tmpfs", ["/a:size=1m"], ["/a:size=1m"]),
        ("gpus", "all", [{"count": "all"}]),
        ("init", "true", True),
        ("scale", "2", 2),
        ("cpus", "1.5", 1.5),
        ("sysctls", {"net.core.somaxconn": 10}, {"net.core.somaxconn": "10"}),
        ("expose", [80, "81/udp"], ["80", "81/udp"]),
        ("extends", "base", {"service": "base"}),
        ("user", 1000, "1000"),
        ("cap_add", ["A", "B", "A"], ["A", "B"]),
    ],
)
def test_canonical_form(name: str, value: Any, expected: Any) -> None:
    assert canon(**{name: value})[name] == expected


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("imgae", "x", r"services\.web additional properties 'imgae' not allowed"),
        ("image", ["x"], r"services\.web\.image must be a string"),
        ("image", 5, r"services\.web\.image must be a string"),
        ("ports", "80", r"services\.web\.ports must be an array"),
        ("ports", ["80:x"], r"services\.web\.ports\.0: invalid containerPort: x"),
        ("ports", [{"published": 1}], "missing property 'target'"),
        ("environment", "A=1", r"services\.web\.environment must be a mapping or an array"),
        ("environment", ["=x"], "empty name"),
        ("environment", {"A": [1]}, r"services\.web\.environment\.A must be a string or number"),
        ("volumes", ["a:b:c:d"], "too many colons"),
        ("volumes", [{"source": "a", "target": "/b"}], "missing property 'type'"),
        ("volumes", [{"type": "odd", "target": "/b"}], "must be one of the following"),
        ("depends_on", {"a": {"condition": "odd"}}, "must be one of the following"),
        ("init", "maybe", r"services\.web\.init must be a boolean"),
        ("scale", "many", r"services\.web\.scale must be an integer"),
        ("scale", 1.5, r"services\.web\.scale must be an integer"),
        ("cpus", float("nan"), r"services\.web\.cpus must be a number"),
        ("mem_limit", "lots", r"services\.web\.mem_limit: invalid size"),
        ("stop_grace_period", "soon", 'time: invalid duration "soon"'),
        ("restart", "maybe", r"services\.web\.restart: invalid value maybe"),
        ("container_name", "-x", "invalid value"),
        ("command", "echo 'x", "invalid command line string"),
        ("build", {"dockerfile": "a", "dockerfile_inline": "b"}, "mutually exclusive"),
        ("extra_hosts", ["a"], "bad host name 'a'"),
        ("configs", [{}], "missing property 'source'"),
        ("secrets", [{"mode": 0o400}], "missing property 'source'"),
        ("devices", [{"permissions": "r"}], "missing property 'source'"),
        ("env_file", [{}], "missing property 'path'"),
        ("blkio_config", {"device_read_bps": [{"path": "/dev/a"}]}, "missing property 'rate'"),
        ("mem_limit", float("inf"), "must be a string or number"),
        ("healthcheck", {"interval": 5}, r"services\.web\.healthcheck\.interval must be a string"),
    ],
)
def test_what_is_refused(name: str, value: Any, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        canon(**{name: value})


def test_extensions_stay() -> None:
    assert canon(**{"x-mine": [1]}) == {"x-mine": [1]}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"image": "a"}, {"image": "b"}, {"image": "b"}),
        ({"command": "a b"}, {"command": "c"}, {"command": ["c"]}),
        ({"environment": ["A=1", "B=1"]}, {"environment": {"B": 2}}, {"environment": {"A": "1", "B": "2"}}),
        ({"dns": ["1"]}, {"dns": ["2", "1"]}, {"dns": ["1", "2"]}),
        (
            {"volumes": ["a:/x", "/y"]},
            {"volumes": ["b:/x"]},
            {
                "volumes": [
                    {"type": "volume", "source": "b", "target": "/x", "volume": {}},
                    {"type": "volume", "target": "/y", "volume": {}},
                ]
            },
        ),
        (
            {"ports": ["80:80"]},
            {"ports": ["80:80", "81"]},
            {"ports": [{**PORT, "target": 80, "published": "80"}, {**PORT, "target": 81}]},
        ),
        (
            {"healthcheck": {"test": "a", "retries": 1}},
            {"healthcheck": {"test": "b"}},
            {"healthcheck": {"test": ["CMD-SHELL", "b"], "retries": 1}},
        ),
        (
            {"logging": {"driver": "a", "options": {"x": "1"}}},
            {"logging": {"options": {"y": "2"}}},
            {"logging": {"driver": "a", "options": {"x": "1", "y": "2"}}},
        ),
        ({"networks": ["a"]}, {"networks": {"a": {"aliases": ["x"]}}}, {"networks": {"a": {"aliases": ["x"]}}}),
        ({"networks": {"a": {"aliases": ["x"]}}}, {"networks": ["a"]}, {"networks": {"a": {"aliases": ["x"]}}}),
        (
            {"depends_on": {"a": {"condition": "service_healthy"}}},
            {"depends_on": {"a": {"restart": True}}},
            {"depends_on": {"a": {"condition": "service_healthy", "restart": True}}},
        ),
        ({"environment": ["A=1"]}, {"environment": ["A"]}, {"environment": {"A": None}}),
        ({"command": "a"}, {"command": None}, {"command": None}),
        (
            {"logging": {"driver": "json-file", "options": {"max-size": "1m"}}},
            {"logging": {"driver": "syslog"}},
            {"logging": {"driver": "syslog"}},
        ),
        (
            {"secrets": ["s"]},
            {"secrets": [{"source": "s", "target": "/run/secrets/s"}]},
            {"secrets": [{"source": "s", "target": "/run/secrets/s"}]},
        ),
        (
            {"ports": ["80:80"]},
            {"ports": ["0.0.0.0:80:80"]},
            {"ports": [{**PORT, "target": 80, "published": "80", "host_ip": "0.0.0.0"}]},
        ),
        ({"build": "."}, {"build": {"target": "t"}}, {"build": {"context": "/base", "target": "t"}}),
    ],
)
def test_a_later_file_over_an_earlier_one(old: Any, new: Any, expected: Any) -> None:
    assert settled(schema.SERVICE.merge(canon(**old), canon(**new))) == expected


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (10**6, "1ms"),
        (1_500_000_000, "1.5s"),
        (60 * 10**9, "1m0s"),
        (3_661 * 10**9, "1h1m1s"),
        (-(10**9), "-1s"),
    ],
)
def test_durations_are_written_as_go_does(ns: int, text: str) -> None:
    assert duration_text(ns) == text
