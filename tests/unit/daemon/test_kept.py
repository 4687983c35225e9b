"""Lists' JSON that is kept: the same bytes while nothing changed, made anew for whatever did."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from rorqual.api import codec
from rorqual.api.config import ContainerConfig, HostConfig, PortBinding
from rorqual.api.container import Health
from rorqual.api.network import EndpointSettings
from rorqual.daemon.api.kept import Entry, Kept
from rorqual.daemon.services.containers import views
from rorqual.daemon.services.containers.record import Container

Change = Callable[[Container], None]
SECOND = 10**9


def container() -> Container:
    return Container(
        id="a" * 64,
        name="one",
        created_ns=5 * SECOND,
        path="true",
        args=(),
        image_id="sha256:" + "1" * 64,
        config=ContainerConfig(image="busybox"),
        host=HostConfig(network_mode="bridge"),
        endpoints={},
        mounts=(),
        snapshotter="overlayfs",
        platform="linux",
    )


def test_an_entry_is_made_once_while_it_is_the_same() -> None:
    made: list[int] = []

    def value() -> dict[str, int]:
        made.append(1)
        return {"a": len(made)}

    kept = Kept()
    assert kept.array([Entry("x", ("same",), value)]) == kept.array([Entry("x", ("same",), value)]) == b'[{"a":1}]\n'
    assert kept.array([Entry("x", ("other",), value), Entry("y", ("same",), value)]) == b'[{"a":2},{"a":3}]\n'
    assert kept.array([]) == b"[]\n"


def test_what_is_no_more_is_not_kept_for_ever() -> None:
    kept = Kept()
    for number in range(1000):
        kept.array([Entry(number, number, lambda: "x" * 100)])
    assert len(kept._known) < 100


def renamed(c: Container) -> None:
    c.name = "two"


def run(c: Container) -> None:
    c.state = c.state.start(5, 6 * SECOND)


def frozen(c: Container) -> None:
    c.state = c.state.start(5, 6 * SECOND).pause()


def ill(c: Container) -> None:
    run(c)
    c.health = Health("unhealthy")


def connected(c: Container) -> None:
    c.endpoints["red"] = EndpointSettings()


def addressed(c: Container) -> None:
    c.networks = {"bridge": EndpointSettings(ip_address="10.0.0.2")}


def published(c: Container) -> None:
    c.ports = {"80/tcp": (PortBinding("0.0.0.0", "8080"),)}


def moved(c: Container) -> None:
    c.host = replace(c.host, network_mode="none")


@pytest.mark.parametrize("change", [renamed, run, frozen, ill, connected, addressed, published, moved])
def test_whatever_a_summary_shows_makes_it_anew(change: Change) -> None:
    one = container()
    row = (one, "busybox", 10 * SECOND, ())
    before, shown = views.made_of(*row), codec.to_bytes(views.summary(*row))
    assert views.made_of(*row) == before
    change(one)
    assert codec.to_bytes(views.summary(*row)) != shown, "the change shows"
    assert views.made_of(*row) != before


def test_time_and_names_from_elsewhere_make_it_anew() -> None:
    one = container()
    run(one)
    before = views.made_of(one, "busybox", 10 * SECOND)
    assert views.made_of(one, "busybox", 20 * SECOND) != before
    assert views.made_of(one, "sha256:1", 10 * SECOND) != before
    assert views.made_of(one, "busybox", 10 * SECOND, ["/web/db"]) != before


def test_the_array_is_json() -> None:
    one = container()
    row = (one, "busybox", 10 * SECOND, ())
    (shown,) = json.loads(Kept().array([Entry(one.id, views.made_of(*row), lambda: views.summary(*row))]))
    assert (shown["Id"], shown["Names"], shown["State"]) == (one.id, ["/one"], "created")
