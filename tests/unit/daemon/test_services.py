"""The services' rules: filters, times, names, states, checks, events, the registry, logs."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from rorqual.api.config import ContainerConfig, HostConfig, LogConfig, PortBinding, RestartPolicy
from rorqual.daemon.config import DaemonConfig, parse
from rorqual.daemon.configvalues import parse_size
from rorqual.daemon.services import clock, names, signals
from rorqual.daemon.services.containers import checks, ports
from rorqual.daemon.services.containers import state as states
from rorqual.daemon.services.containers.logs import LogReader, LogRequest
from rorqual.daemon.services.containers.record import Container, from_row
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.containers.start import exit_code_of
from rorqual.daemon.services.containers.views import Listing, status_text
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.logconfig import Source
from rorqual.daemon.store.daemondb import DaemonDB
from rorqual.daemon.store.journal import Journal
from rorqual.errdefs import Conflict, InvalidArgument, NotFound


def container(id="a" * 64, name="one", **more):
    given = {
        "id": id,
        "name": name,
        "created_ns": 5 * 10**9,
        "path": "true",
        "args": (),
        "image_id": "sha256:" + "1" * 64,
        "config": ContainerConfig(image="busybox", labels={"k": "v"}),
        "host": HostConfig(network_mode="bridge"),
        "endpoints": {},
        "mounts": (),
        "snapshotter": "overlayfs",
        "platform": "linux",
    }
    return Container(**{**given, **more})


# ---- filters ----


@pytest.mark.parametrize("text", ['{"label":["a=b"]}', '{"label":{"a=b":true}}'])
def test_both_forms_of_filters_are_taken(text):
    filters = Filters.parse(text, {"label"})
    assert filters.labels("label", {"a": "b"})
    assert not filters.labels("label", {"a": "c"})


@pytest.mark.parametrize("text", ["{", "[]", '{"label":"a"}', '{"label":[1]}', '{"nope":["a"]}'])
def test_bad_filters_are_refused(text):
    with pytest.raises(InvalidArgument, match="invalid filter"):
        Filters.parse(text, {"label"})


def test_a_broken_pattern_is_text():
    assert not Filters.parse('{"name":["("]}', {"name"}).pattern("name", "abc")


# ---- times, names, signals ----


def test_times_have_nine_digits_and_no_trailing_zeros():
    assert clock.rfc3339(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert clock.rfc3339_fixed(1_500_000_000) == "1970-01-01T00:00:01.500000000Z"
    assert clock.rfc3339(0) == clock.NEVER


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1.5", 1_500_000_000),
        ("10m", 400 * 10**9),
        ("1h30m", (1000 - 5400) * 10**9),
        ("1970-01-01T00:00:01.25Z", 1_250_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_since_and_until(text, ns):
    assert clock.parse_when(text, 1000 * 10**9) == ns


@pytest.mark.parametrize("text", ["x", "10", "1y", "2026-13-01"])
def test_what_is_no_time_is_refused(text):
    if text == "10":
        assert clock.parse_when(text) == 10 * 10**9
        return
    with pytest.raises(InvalidArgument):
        clock.parse_when(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "Less than a second"), (61, "About a minute"), (7200, "2 hours")])
def test_durations_in_words(seconds, text):
    assert clock.duration(seconds) == text


def test_names():
    assert names.check("/ok.name-1") == "ok.name-1"
    for bad in ("a", "-ab", "a b", "ab\n", ""):
        with pytest.raises(InvalidArgument, match="Invalid container name"):
            names.check(bad)
    assert names.generate(()).count("_") == 1


@pytest.mark.parametrize(("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37)])
def test_signals(text, number):
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["0", "65", "FOO", "-1", ""])
def test_bad_signals_are_refused(text):
    with pytest.raises(InvalidArgument, match="invalid signal"):
        signals.parse(text)


# ---- states ----


def test_the_life_of_a_container():
    state = states.State().start(7, 10)
    assert state.running
    assert state.pause().running
    ended = state.pause().exit(137, 20)
    assert (ended.status, ended.pid, ended.exit_code) == ("exited", 0, 137)
    with pytest.raises(Conflict):
        state.remove()
    with pytest.raises(Conflict):
        states.State().pause()
    assert status_text(ended, 20 + 120 * 10**9) == "Exited (137) 2 minutes ago"


@pytest.mark.parametrize(
    ("policy", "code", "restarts", "by_user", "again"),
    [
        ("no", 1, 0, False, False),
        ("always", 0, 9, False, True),
        ("always", 0, 9, True, False),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 1, 2, False, True),
        ("on-failure", 1, 3, False, False),
        ("unless-stopped", 0, 0, False, True),
    ],
)
def test_restart_policies(policy, code, restarts, by_user, again):
    assert states.should_restart(policy, 3, exit_code=code, restarts=restarts, stopped_by_user=by_user) is again


def test_the_delay_doubles_to_a_minute_and_starts_anew():
    delay = 0.0
    for _ in range(20):
        delay = states.next_delay_s(delay, 0)
    assert delay == 60
    assert states.next_delay_s(delay, 11) == 0.1


@pytest.mark.parametrize(
    ("text", "code"),
    [('exec: "x": executable file not found in $PATH', 127), ("permission denied", 126), ("other", 128)],
)
def test_exit_codes_of_failed_starts(text, code):
    assert exit_code_of(text) == code


# ---- checks, ports, configuration ----


@pytest.mark.parametrize(
    "host",
    [
        HostConfig(restart_policy=RestartPolicy("sometimes", 0)),
        HostConfig(restart_policy=RestartPolicy("always", 3)),
        HostConfig(restart_policy=RestartPolicy("always", 0), auto_remove=True),
        HostConfig(log_config=LogConfig("syslogg", {})),
        HostConfig(log_config=LogConfig("json-file", {"max-file": "0"})),
        HostConfig(log_config=LogConfig("json-file", {"nope": "1"})),
        HostConfig(network_mode="container:"),
        HostConfig(pid_mode="what"),
        HostConfig(ipc_mode="container:"),
        HostConfig(runtime="nope"),
        HostConfig(extra_hosts=("x",)),
        HostConfig(cap_add=("NOPE",)),
    ],
)
def test_host_configs_that_are_refused(host):
    with pytest.raises(InvalidArgument):
        checks.host_config(host, DaemonConfig())


@pytest.mark.parametrize("env", ["=x", ""])
def test_bad_environment_is_refused(env):
    with pytest.raises(InvalidArgument, match="invalid environment variable"):
        checks.container_config(ContainerConfig(env=(env,)))


@pytest.mark.parametrize("text", ["0/tcp", "70000", "80/xyz", "9-8/tcp", "x"])
def test_bad_ports_are_refused(text):
    with pytest.raises(InvalidArgument):
        ports.parse_port(text)


def test_published_ports():
    host = HostConfig(port_bindings={"80/tcp": (PortBinding("127.0.0.1", "8080-8090"),)}, publish_all_ports=True)
    found = ports.bindings(ContainerConfig(exposed_ports={"53/udp": {}}), host)
    assert [(b.container_port, b.proto, b.host_port, b.host_port_end) for b in found] == [
        (80, "tcp", 8080, 8090),
        (53, "udp", 0, 0),
    ]


def test_a_directive_given_twice_is_refused(tmp_path):
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"bridge": "b0", "data-root": str(tmp_path)}))
    assert parse(["--config-file", str(file)]).config.bridge == "b0"
    with pytest.raises(InvalidArgument, match="specified both as a flag and in the configuration file: bridge"):
        parse(["--config-file", str(file), "--bridge", "b1"])
    file.write_text('{"nope": 1}')
    with pytest.raises(InvalidArgument, match="don't match any configuration option: nope"):
        parse(["--config-file", str(file)])


def test_the_cgroup_driver_is_chosen_by_exec_opts(tmp_path):
    assert parse([]).config.cgroup_driver == "cgroupfs"
    assert parse([]).config.parent_of_groups == "/rorqual"
    assert parse(["--exec-opt", "native.cgroupdriver=cgroupfs"]).config.cgroup_driver == "cgroupfs"
    systemd = DaemonConfig(exec_opts=("native.cgroupdriver=systemd",))
    assert (systemd.cgroup_driver, systemd.parent_of_groups) == ("systemd", "system.slice")
    for option, text in (
        ("native.cgroupdriver=nope", "native.cgroupdriver option nope is not supported"),
        ("isolation=hyperv", "unknown option isolation"),
        ("native.cgroupdriver", "must be name=value"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            parse(["--exec-opt", option])
    if not Path("/run/systemd/system").is_dir():
        with pytest.raises(InvalidArgument, match="systemd support for managing cgroups is not available"):
            parse(["--exec-opt", "native.cgroupdriver=systemd"])


@pytest.mark.parametrize(("text", "size"), [("10m", 10 << 20), ("1g", 1 << 30), ("512", 512), ("64MiB", 64 << 20)])
def test_sizes(text, size):
    assert parse_size("x", text) == size


# ---- registry and store ----


@pytest.fixture
def store(tmp_path):
    database = DaemonDB(tmp_path / "daemon.db")
    database.open()
    yield database
    database.close()


async def test_a_container_survives_the_daemon(store):
    registry = Registry(store)
    one = container()
    with registry.reserved("one", one.id):
        await registry.add(one)
    one.state = one.state.start(77, 9)
    await registry.save_state(one)
    again = Registry(store)
    again.load()
    found = again.get("one")
    assert (found.state.pid, found.config, found.host) == (77, one.config, one.host)
    assert from_row(found.to_row()).to_row() == one.to_row()


async def test_names_are_unique_and_ids_have_prefixes(store):
    registry = Registry(store)
    for id, name in (("ab" * 32, "one"), ("ac" * 32, "two")):
        with registry.reserved(name, id):
            await registry.add(container(id, name))
    with pytest.raises(Conflict, match=r'Conflict\. The container name "/one" is already in use'):  # noqa: SIM117
        with registry.reserved("one", "x"):
            pass
    assert registry.get("ab").name == "one"
    with pytest.raises(InvalidArgument, match="multiple IDs"):
        registry.get("a")
    with pytest.raises(NotFound, match="No such container: zz"):
        registry.get("zz")
    await registry.rename(registry.get("one"), "uno")
    assert registry.get("uno").id == "ab" * 32
    await registry.remove(registry.get("uno"))
    assert [x.container for x in store.load_leftovers()] == ["ab" * 32]
    assert "uno" not in registry.names


class Images:
    """busybox, whose layers `mine` shares, and what was made of it."""

    @dataclass(frozen=True)
    class Image:
        id: str

        @property
        def variants(self):
            return (self,)

    def lookup(self, text):
        known = {"busybox": "sha256:" + "1" * 64, "mine": "sha256:" + "1" * 64, "other": "sha256:" + "ff" * 32}
        return self.Image(known[text]) if text in known else None

    def children_of(self, id):
        return [self.Image("sha256:" + "1" * 64)] if id == "sha256:" + "ff" * 32 else []


async def test_listing_filters(store):
    registry = Registry(store)
    for id, name, created in (("ab" * 32, "one", 1), ("cd" * 32, "two", 2)):
        with registry.reserved(name, id):
            await registry.add(container(id, name, created_ns=created))
    listing = Listing(registry, Images())

    def select(**filters):
        found = listing.select(Filters({k: (v,) for k, v in filters.items()}), everything=True, limit=0)
        return [c.name for c in found]

    assert select() == ["two", "one"]
    assert select(name="^/on") == ["one"]
    assert select(label="k=v", since="one") == ["two"]
    assert select(status="running") == []
    assert select(ancestor="busybox") == select(ancestor="mine") == select(ancestor="other") == ["two", "one"]
    assert select(ancestor="nosuch") == [] == select(**{"is-task": "true"})
    assert select(**{"is-task": "0"}) == ["two", "one"]
    for key, value in (("is-task", "odd"), ("health", "odd")):
        with pytest.raises(InvalidArgument, match="odd"):
            select(**{key: value})
    with pytest.raises(InvalidArgument):
        select(status="dreaming")


# ---- events ----


async def test_events_are_kept_and_streamed(tmp_path):
    journal = Journal(tmp_path / "events")
    journal.open()
    events = Events(journal)
    events.start()
    begin = clock.now_ns()
    events.publish("container", "start", "a" * 64, {"name": "one", "image": "busybox"})
    events.publish("image", "pull", "busybox:latest", {"name": "busybox"})
    filters = Filters({"type": ("container",)})
    got = [e.action async for e in events.stream(begin, clock.now_ns(), filters)]
    assert got == ["start"]

    async def first():
        async for event in events.stream(None, None, Filters({"container": ("one",)})):
            return event
        return None

    waiting = asyncio.create_task(first())
    await asyncio.sleep(0.01)
    events.publish("container", "die", "a" * 64, {"name": "one", "exitCode": "3"})
    assert (await waiting).actor.attributes["exitCode"] == "3"
    await events.stop()
    journal.close()


# ---- logs ----


def write(path, entries):
    with path.open("a") as file:
        for text, stream, second in entries:
            line = {"log": text, "stream": stream, "time": f"2026-01-01T00:00:{second:02}.000000000Z"}
            file.write(json.dumps(line) + "\n")


async def read(path, running=lambda: False, **request):
    given = {"stdout": True, "stderr": True, **request}
    return b"".join(
        [p async for p in LogReader(Source(str(path), "json-file", {}), LogRequest(**given), mux=False).read(running)]
    )


async def test_logs_in_order_over_rotated_files(tmp_path):
    path = tmp_path / "x-json.log"
    write(tmp_path / "x-json.log.2", [("1\n", "stdout", 1)])
    write(tmp_path / "x-json.log.1", [("2\n", "stderr", 2), ("3\n", "stdout", 3)])
    write(path, [("4\n", "stdout", 4)])
    assert await read(path) == b"1\n2\n3\n4\n"
    assert await read(path, tail=2) == b"3\n4\n"
    assert await read(path, tail=0) == b""
    assert await read(path, stdout=False) == b"2\n"
    assert await read(path, stdout=False, tail=1) == b"2\n"
    since = clock.parse_rfc3339("2026-01-01T00:00:03Z")
    assert await read(path, since_ns=since) == b"3\n4\n"
    assert await read(path, until_ns=since) == b"1\n2\n3\n"
    assert (await read(path, tail=1, timestamps=True)).startswith(b"2026-01-01T00:00:04.000000000Z 4")


async def test_tail_reads_backwards_over_blocks(tmp_path):
    path = tmp_path / "x-json.log"
    write(path, [(f"{n:06}{'x' * 200}\n", "stdout", 1) for n in range(5000)])
    lines = (await read(path, tail=3000)).splitlines()
    assert (len(lines), lines[0][:6], lines[-1][:6]) == (3000, b"002000", b"004999")


async def test_following_ends_with_the_container_and_loses_nothing(tmp_path):
    path = tmp_path / "x-json.log"
    write(path, [("1\n", "stdout", 1)])
    alive = [True]

    async def later():
        await asyncio.sleep(0.05)
        write(path, [("2\n", "stdout", 2)])
        path.rename(tmp_path / "x-json.log.1")
        write(path, [("3\n", "stdout", 3)])
        alive[0] = False

    writer = asyncio.create_task(later())
    async with asyncio.timeout(10):
        assert await read(path, lambda: alive[0], follow=True) == b"1\n2\n3\n"
    await writer


async def test_a_torn_line_is_passed_over(tmp_path):
    path = tmp_path / "x-json.log"
    path.write_text('{"log":"a\\n","stream":"stdout","time":"2026-01-01T00:00:01Z"}\n{"log":"b\n')
    assert await read(path) == b"a\n"
