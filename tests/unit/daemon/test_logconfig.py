"""--log-driver and --log-opt: what is accepted, and what the shim is told."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.api.config import ContainerConfig, LogConfig
from rorqual.daemon.services import logconfig
from rorqual.errdefs import InvalidArgument

OF = logconfig.Subject(
    id="ab" * 32,
    name="web",
    image_id="sha256:" + "cd" * 32,
    created_ns=10**18,
    path="sh",
    args=("-c", "true"),
    config=ContainerConfig(image="busybox:1", env=("A=1", "B=2", "AB=3"), labels={"tier": "front", "team": "x"}),
)


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("nosuch", {}, "logger: no log driver named 'nosuch' is registered"),
        ("json-file", {"x": "1"}, "unknown log opt 'x' for json-file log driver"),
        ("local", {"x": "1"}, "unknown log opt 'x' for log driver local"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"compress": "true", "max-file": "1"}, "compress cannot be true when max-file is less than 2"),
        ("json-file", {"max-size": "big"}, "invalid value for max-size"),
        ("json-file", {"mode": "fast"}, "logging mode not supported: fast"),
        ("json-file", {"max-buffer-size": "1m"}, "max-buffer-size option is only supported with 'mode=non-blocking'"),
        ("json-file", {"env-regex": "("}, "invalid env-regex"),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("syslog", {"syslog-address": "http://x"}, "unsupported scheme: 'http'"),
        ("syslog", {"syslog-address": "unix:///no/such"}, "no such file or directory"),
        ("syslog", {"syslog-facility": "loud"}, "invalid syslog facility"),
        ("syslog", {"syslog-format": "rfc1"}, "Invalid syslog format"),
        ("gelf", {}, "gelf-address is a required parameter"),
        ("gelf", {"gelf-address": "udp://host"}, "please provide gelf-address as proto://host:port"),
        ("gelf", {"gelf-address": "tcp://h:1", "gelf-compression-type": "gzip"}, "only supported on UDP"),
        ("gelf", {"gelf-address": "udp://h:1", "gelf-compression-level": "11"}, 'unknown value "11"'),
        ("fluentd", {"fluentd-address": "tcp://h:1/x"}, "should not contain a path element"),
        ("fluentd", {"fluentd-async": "maybe"}, "invalid value for option fluentd-async"),
        ("fluentd", {"fluentd-retry-wait": "soon"}, "invalid duration"),
        ("syslog", {"cache-disabled": "maybe"}, "invalid value for option cache-disabled: maybe"),
    ],
)
def test_options_that_are_refused(driver: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        logconfig.check(LogConfig(driver, options))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("json-file", {"max-file": "3"}),
        ("json-file", {"max-size": "10m", "max-file": "3", "compress": "true", "mode": "non-blocking"}),
        ("local", {"max-size": "1k", "compress": "false", "max-file": "1"}),
        ("syslog", {"syslog-address": "udp://127.0.0.1", "syslog-facility": "local7", "cache-max-size": "1m"}),
        ("syslog", {"syslog-address": "tcp+tls://h:6514", "syslog-tls-skip-verify": "1", "syslog-facility": "23"}),
        ("gelf", {"gelf-address": "udp://h:12201", "gelf-compression-level": "-1"}),
        ("fluentd", {}),
        ("journald", {"tag": "{{.Name}}", "labels-regex": "^t"}),
        ("none", {"anything": "goes"}),
    ],
)
def test_options_that_are_accepted(driver: str, options: dict[str, str]) -> None:
    logconfig.check(LogConfig(driver, options))


def test_sizes_are_powers_of_ten_as_dockers() -> None:
    assert logconfig.human_size("s", "10m") == 10_000_000
    assert logconfig.human_size("s", "1.5k") == 1500
    assert logconfig.human_size("s", "7") == 7


def test_labels_and_variables_by_name_and_by_pattern() -> None:
    options = {"labels": "tier,none", "labels-regex": "^te", "env": "B", "env-regex": "^A"}
    assert logconfig.attributes(options, OF.config) == {"tier": "front", "team": "x", "B": "2", "A": "1", "AB": "3"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}/{{ .ID }}", "web/" + "ab" * 6),
        ("{{.ImageName}} {{.ImageID}}", "busybox:1 " + "cd" * 6),
        ("{{.Command}}", "sh -c true"),
        ("{{ (.ExtraAttributes nil).A }}", "1"),
    ],
)
def test_tags(template: str, expected: str) -> None:
    assert logconfig.tag(template, OF) == expected


@pytest.mark.parametrize("template", ["{{.Nothing}}", "{{if .Name}}x{{end}}"])
def test_tags_that_are_refused(template: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid tag"):
        logconfig.tag(template, OF)


def test_what_the_shim_is_told() -> None:
    told = logconfig.task_options(LogConfig("json-file", {"max-size": "1k", "tag": "{{.Name}}"}), OF, "/d")
    assert told == {
        "driver": "json-file",
        "attrs": {"tag": "web"},
        "path": f"/d/{OF.id}-json.log",
        "max_size": 1000,
        "max_file": 1,
        "compress": False,
    }
    told = logconfig.task_options(LogConfig("syslog", {"mode": "non-blocking", "max-buffer-size": "2m"}), OF, "/d")
    assert told["tag"] == "ab" * 6 and told["mode"] == "non-blocking" and told["max_buffer_bytes"] == 2 << 20
    assert told["cache"]["path"] == "/d/local-logs/container-cached.log" and told["cache"]["max_file"] == 5
    assert logconfig.task_options(LogConfig("none", {}), OF, "/d") == {"driver": "none"}


def test_where_logs_reads() -> None:
    def source(driver: str, **options: str) -> logconfig.Source | None:
        log = LogConfig(driver, {name.replace("_", "-"): value for name, value in options.items()})
        return logconfig.source(log, OF, "/d")

    assert source("none") is None
    assert source("syslog", cache_disabled="true") is None
    found = source("syslog")
    assert found is not None and found.driver == "local" and found.path.endswith("container-cached.log")
    found = source("local", tag="t", labels="tier")
    assert found is not None and found.attrs == {"tier": "front", "tag": "t"}


_ODD = """
    udp://[::1 tcp://a:99999 unix:// tcp:// tcp+tls://[ 0 -1 1 9k inf nan 1.5m a{99999999999} (?P< [ * (?i true none {{
    rfc3164 daemon 24 1h 1x -1s blocking non-blocking
"""


@given(
    driver=st.sampled_from(logconfig.DRIVERS),
    options=st.dictionaries(
        st.sampled_from(sorted(set().union(*logconfig._OWN.values(), logconfig._COMMON, logconfig._EVERYWHERE))),
        st.one_of(
            st.sampled_from(_ODD.split()),
            st.sampled_from(["", "9" * 400, "9" * 400 + "g", "(" * 6000, "a\0b", "\u0663", "e" * 400]),
            st.text(max_size=5),
        ),
        max_size=4,
    ),
)
def test_any_options_are_taken_or_refused(driver: str, options: dict[str, str]) -> None:
    with suppress(InvalidArgument):
        logconfig.check(LogConfig(type=driver, config=options))
