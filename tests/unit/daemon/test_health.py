"""What a health check is made of: labels, defaults, and what the shim is told."""

import pytest

from rorqual.api.config import ContainerConfig, HealthConfig, HostConfig
from rorqual.daemon.services import health
from rorqual.daemon.spec import merge
from rorqual.errdefs import InvalidArgument
from rorqual.oci.image import ContainerConfig as ImageConfig
from rorqual.oci.image import Healthcheck


def told(check: HealthConfig | None, **config: object) -> dict[str, object] | None:
    return health.task_options(ContainerConfig(healthcheck=check, **config), HostConfig(), "box", {})  # type: ignore[arg-type]


def test_dockers_defaults() -> None:
    options = told(HealthConfig(test=("CMD", "true")))
    assert options is not None
    del options["probe"]
    assert options == {
        "interval_s": 30.0,
        "timeout_s": 30.0,
        "start_period_s": 0.0,
        "start_interval_s": 5.0,
        "retries": 3,
    }


@pytest.mark.parametrize("test", [None, (), ("NONE",), ("SOMETHING", "else")])
def test_no_check(test: tuple[str, ...] | None) -> None:
    assert told(HealthConfig(test=test)) is None
    assert told(None) is None


def test_a_shell_line_is_run_by_the_images_shell() -> None:
    options = told(HealthConfig(test=("CMD-SHELL", "test -f /ok")), shell=("/bin/ash", "-ec"))
    assert options is not None
    assert options["probe"]["process"]["args"] == ["/bin/ash", "-ec", "test -f /ok"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("HTTP", "8080", ("127.0.0.1", 8080, "/")),
        ("HTTP", ":8080/healthz?full=1", ("127.0.0.1", 8080, "/healthz?full=1")),
        ("HTTP", "http://localhost/up", ("127.0.0.1", 80, "/up")),
        ("HTTP", "http://[::1]:81/", ("::1", 81, "/")),
        ("TCP", "5432", ("127.0.0.1", 5432, "")),
        ("TCP", "10.0.0.1:1", ("10.0.0.1", 1, "")),
    ],
)
def test_targets(kind: str, text: str, expected: tuple[str, int, str]) -> None:
    found = health.target(kind, text)
    assert (found.host, found.port, found.path) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("HTTP", "https://localhost/"),
        ("HTTP", "http://example.org/"),
        ("HTTP", ":80/a b"),
        ("HTTP", ":80/\r\nX: y"),
        ("HTTP", ":99999/"),
        ("TCP", ""),
        ("TCP", "localhost"),
        ("TCP", "0"),
    ],
)
def test_targets_that_are_refused(kind: str, text: str) -> None:
    with pytest.raises(InvalidArgument):
        health.target(kind, text)


def test_labels_of_the_user_choose_the_probe_and_keep_the_times() -> None:
    found = health.from_labels({"rorqual.health.http": ":80/"}, HealthConfig(interval=5_000_000))
    assert found == HealthConfig(test=("HTTP", ":80/"), interval=5_000_000)
    assert health.from_labels({"other": "x"}, None) is None
    assert health.restarts_unhealthy({"rorqual.health.restart": "true"})
    assert not health.restarts_unhealthy({"rorqual.health.restart": "no"}) and not health.restarts_unhealthy(None)


@pytest.mark.parametrize("member", ["interval", "timeout", "start_period", "start_interval"])
def test_times_below_a_millisecond_are_refused(member: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be less than 1ms"):
        health.check(HealthConfig(**{member: 10}))  # type: ignore[arg-type]


def test_a_report_and_what_is_left_of_it_at_the_end() -> None:
    entry = {"start": 10**18, "end": 10**18 + 5, "exit_code": 0, "output": "ok"}
    found = health.parse_report({"status": "healthy", "streak": 0, "log": [entry]})
    assert found.log[0].start == "2001-09-09T01:46:40Z" and found.log[0].output == "ok"
    assert health.ended(found).status == "unhealthy" and health.ended(found).log == found.log
    with pytest.raises((LookupError, TypeError, ValueError)):
        health.parse_report({"status": "healthy"})


@pytest.mark.parametrize("kind", ["HTTP", "TCP", "http", "SOMETHING"])
def test_cve_2026_53488_an_image_does_not_make_the_shim_connect(kind: str) -> None:
    """The probes beyond Docker's are the user's to ask for; what else an image says of its check is taken."""
    image = ImageConfig(cmd=("true",), healthcheck=Healthcheck(test=(kind, "10.0.0.1:80"), interval_ns=7_000_000_000))
    assert told(merge.merge(ContainerConfig(), image).healthcheck) is None
    user = ContainerConfig(healthcheck=health.from_labels({health.TCP_LABEL: "127.0.0.1:5432"}, None))
    options = told(merge.merge(user, image).healthcheck)
    assert options is not None
    assert options["probe"] == {"kind": "tcp", "host": "127.0.0.1", "port": 5432, "path": ""}
    assert options["interval_s"] == 7.0
    own = ImageConfig(cmd=("true",), healthcheck=Healthcheck(test=("CMD", "check")))
    assert told(merge.merge(ContainerConfig(), own).healthcheck) is not None
