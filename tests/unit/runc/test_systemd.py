"""systemd's driver against a manager of this test's own that speaks D-Bus, its bytes against a real D-Bus daemon."""

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rorqual import errdefs
from rorqual.oci.runtime import DeviceRule
from rorqual.runc.cgroups.settings import Write
from rorqual.runc.systemd import bus, manager, message, names, properties, scope
from rorqual.runc.systemd.message import Variant

INFINITY = 2**64 - 1
# Fields of a message's header (D-Bus specification, Header Fields).
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, SIGNATURE = 1, 2, 3, 4, 5, 8


def answer(serial: int, reply_to: int, signature: str, body: list[Any], error: str = "") -> bytes:
    """What a manager returns of a call, or with `error`, an error's name, its failure."""
    fields = [(REPLY_SERIAL, Variant("u", reply_to))]
    if error:
        fields.append((ERROR_NAME, Variant("s", error)))
    if signature:
        fields.append((SIGNATURE, Variant("g", signature)))
    kind = message.ERROR if error else message.METHOD_RETURN
    return message.encode_message(kind, serial, fields, signature, body)


def signalled(serial: int, path: str, interface: str, member: str, signature: str, body: list[Any]) -> bytes:
    """A signal of a manager's."""
    fields = [(PATH, Variant("o", path)), (INTERFACE, Variant("s", interface)), (MEMBER, Variant("s", member))]
    return message.encode_message(
        message.SIGNAL, serial, [*fields, (SIGNATURE, Variant("g", signature))], signature, body
    )


@pytest.mark.parametrize(
    ("path", "name", "directory"),
    [
        ("system.slice:docker:1234", "docker-1234.scope", "/system.slice/docker-1234.scope"),
        ("a-b-c.slice:p:x", "p-x.scope", "/a.slice/a-b.slice/a-b-c.slice/p-x.scope"),
        ("-.slice:p:x", "p-x.scope", "/p-x.scope"),
        ("-:p:x", "p-x.scope", "/p-x.scope"),
        ("::x", "-x.scope", "/system.slice/-x.scope"),
        (":p:my-own.slice", "my-own.slice", "/my.slice/my-own.slice"),
        ("", "runc-box.scope", "/system.slice/runc-box.scope"),
    ],
)
def test_cgroups_path_names_slice_prefix_and_name(path: str, name: str, directory: str) -> None:
    unit = names.unit(path, "box", of_user=False)
    assert (unit.name, unit.path) == (name, directory)


def test_an_ordinary_users_units_are_in_the_users_slice() -> None:
    assert names.unit("", "box", of_user=True).path == "/user.slice/runc-box.scope"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/absolute", 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/absolute"'),
        ("a.slice:b", "expected cgroupsPath"),
        ("a:b:c:d", "expected cgroupsPath"),
        ("a:b:c", "invalid slice name: a"),
        (".slice:b:c", "invalid slice name: .slice"),
        ("a--b.slice:b:c", "invalid slice name: a--b.slice"),
        ("-a.slice:b:c", "invalid slice name: -a.slice"),
        ("a.slice/../b.slice:p:c", "invalid slice name"),
        ("a.slice:p:../../x", "cannot be a systemd unit's name"),
        ("a.slice:p:" + "x" * 300, "cannot be a systemd unit's name"),
        (":p:..slice", "invalid slice name"),
    ],
)
def test_a_path_that_is_no_units_is_refused(path: str, text: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=text.replace(".", r"\.")):
        names.unit(path, "box", of_user=False)


@pytest.mark.parametrize(
    ("file", "value", "expected"),
    [
        ("memory.max", "4096", [("MemoryMax", 4096)]),
        ("memory.max", "max", [("MemoryMax", INFINITY)]),
        ("memory.low", "10", [("MemoryLow", 10)]),
        ("memory.high", "10", [("MemoryHigh", 10)]),
        ("memory.swap.max", "0", [("MemorySwapMax", 0)]),
        ("memory.limit_in_bytes", "-1", [("MemoryLimit", INFINITY)]),
        ("pids.max", "7", [("TasksMax", 7)]),
        ("cpu.weight", "100", [("CPUWeight", 100)]),
        ("cpu.shares", "512", [("CPUShares", 512)]),
        ("cpu.idle", "1", [("CPUWeight", 0)]),
        ("cpu.idle", "0", []),
        ("io.weight", "default 50", [("IOWeight", 50)]),
        ("blkio.weight", "300", [("BlockIOWeight", 300)]),
        ("cpuset.cpus", "0-1,9", [("AllowedCPUs", [3, 2])]),
        ("cpuset.mems", "0", [("AllowedMemoryNodes", [1])]),
        ("cpu.max", "50000 100000", [("CPUQuotaPerSecUSec", 500000), ("CPUQuotaPeriodUSec", 100000)]),
        ("cpu.max", "33333 100000", [("CPUQuotaPerSecUSec", 340000), ("CPUQuotaPeriodUSec", 100000)]),
        ("cpu.max", "max 20000", [("CPUQuotaPerSecUSec", INFINITY), ("CPUQuotaPeriodUSec", 20000)]),
        ("memory.oom.group", "1", []),
    ],
)
def test_limits_are_properties(file: str, value: str, expected: list[tuple[str, Any]]) -> None:
    found = properties.limits([Write(file, value)], 252)
    assert [(name, variant.value) for name, variant in found] == expected
    for name, variant in found:
        assert variant.signature == ("ay" if name.startswith("Allowed") else "t")


def test_quota_and_period_of_v1_are_one_property_too() -> None:
    writes = [Write("cpu.cfs_quota_us", "50000"), Write("cpu.cfs_period_us", "100000")]
    assert ("CPUQuotaPerSecUSec", Variant("t", 500000)) in properties.limits(writes, 252)
    assert ("CPUQuotaPerSecUSec", Variant("t", INFINITY)) in properties.limits([Write("cpu.cfs_quota_us", "-1")], 252)


def test_an_idle_units_weight_is_not_told() -> None:
    found = properties.limits([Write("cpu.weight", "100"), Write("cpu.idle", "1")], 252)
    assert found == [("CPUWeight", Variant("t", 0))]


def test_an_older_systemd_is_not_asked_for_what_it_does_not_know() -> None:
    writes = [Write("cpuset.cpus", "0"), Write("cpu.max", "5 10"), Write("cpu.idle", "1")]
    assert [name for name, _ in properties.limits(writes, 241)] == ["CPUQuotaPerSecUSec"]


@pytest.mark.parametrize(("file", "value"), [("cpuset.cpus", "x"), ("cpu.max", "a b"), ("memory.max", "much")])
def test_a_value_that_means_nothing_is_refused_by_its_name(file: str, value: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=file):
        properties.limits([Write(file, value)], 252)


def test_devices_as_a_reload_would_write_them() -> None:
    rules = (
        DeviceRule(True, "c", 10, 1, "rwm"),
        DeviceRule(False),
        DeviceRule(True, "c", 1, 3, "rw"),
        DeviceRule(True, "c", 1, 3, "m"),
        DeviceRule(True, "c", 136, None, "rwm"),
        DeviceRule(True, "b", None, None, "m"),
        DeviceRule(True, "c", 240, None, "r"),
        DeviceRule(False, "c", 1, 3, "w"),
    )
    found = dict(properties.devices(rules, {("c", 136): "pts"}))
    assert found["DevicePolicy"].value == "strict"
    assert found["DeviceAllow"].value == [("block-*", "m"), ("char-pts", "mrw"), ("/dev/char/1:3", "mr")] or sorted(
        found["DeviceAllow"].value
    ) == [("/dev/char/1:3", "mr"), ("block-*", "m"), ("char-pts", "mrw")]
    assert dict(properties.devices((DeviceRule(True),), {})) == {"DevicePolicy": Variant("s", "auto")}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 123456789", ("TimeoutStopUSec", Variant("t", 123456789))),
        ("TimeoutStopSec", "2.5", ("TimeoutStopUSec", Variant("t", 2500000))),
        ("CollectMode", "'inactive-or-failed'", ("CollectMode", Variant("s", "inactive-or-failed"))),
        ("SendSIGKILL", "false", ("SendSIGKILL", Variant("b", False))),
        ("KillSignal", "15", ("KillSignal", Variant("i", 15))),
        ("Before", "['a.service', 'b.service']", ("Before", Variant("as", ["a.service", "b.service"]))),
    ],
)
def test_annotations_are_properties(name: str, text: str, expected: tuple[str, Variant]) -> None:
    assert properties.annotated({f"org.systemd.property.{name}": text, "other": "x"}) == [expected]


@pytest.mark.parametrize(
    ("name", "text"),
    [("A", "1"), ("Not/Name", "1"), ("KillSignal", "uint32 -1"), ("CollectMode", "'open"), ("X" * 3, "nonsense")],
)
def test_an_annotation_that_is_no_property_is_refused_by_its_name(name: str, text: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=r"org\.systemd\.property\."):
        properties.annotated({f"org.systemd.property.{name}": text})


VALUES: list[tuple[str, list[Any]]] = [
    ("ybnqiuxt", [1, True, -2, 3, -4, 5, -6, 7]),
    ("sog", ["text", "/a/b", "a{sv}"]),
    ("a(sv)u", [[("A", Variant("t", 5)), ("B", Variant("as", ["x", ""])), ("C", Variant("ay", [1, 2, 3]))], 9]),
    ("a{sv}", [[("k", Variant("(ub)", (1, False)))]]),
    ("at", [[]]),
]


@pytest.mark.parametrize(("signature", "values"), VALUES)
def test_what_is_encoded_is_decoded_again(signature: str, values: list[Any]) -> None:
    sent = answer(7, 3, signature, values)
    assert message.length(sent[: message.HEAD_SIZE]) == len(sent)
    assert message.decode_message(sent).body == tuple(values)


def test_bytes_are_those_of_the_specification() -> None:
    assert message.encode("yu", [1, 2]) == b"\1\0\0\0\2\0\0\0"
    assert message.encode("s", ["foo"]) == b"\3\0\0\0foo\0"
    assert message.encode("at", [[5]]) == b"\x08\0\0\0\0\0\0\0" + struct.pack("<Q", 5)
    assert message.encode("v", [Variant("u", 5)]) == b"\1u\0\0\5\0\0\0"


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_damaged_message_is_an_error_and_no_traceback(cut: int) -> None:
    whole = signalled(1, "/a", "b.c", "D", "uoss", [1, "/job", "unit", "done"])
    for data in (whole[: 16 + cut], whole[:cut] + b"\xff" * 8 + whole[cut + 8 :]):
        try:
            message.length(data[:16].ljust(16, b"l"))
            message.decode_message(data)
        except errdefs.DataLoss:
            continue


def test_signatures_that_are_none() -> None:
    for bad in ("a", "(", "(s", "()", "z", "a" * 100 + "y"):
        with pytest.raises(ValueError, match=r"type|structure"):
            message.split(bad)


class FakeSystemd:
    """Serves one connection after another; `units`: those that exist, with the properties they were given."""

    def __init__(self, path: Path, *, daemon: bool) -> None:
        self.units: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.result = "done"
        self.tells = True
        self.failed: set[str] = set()
        self.errors: dict[str, str] = {}
        self._daemon = daemon
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._jobs = 0
        self._serial = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as lines:
                assert lines.readline() == b"\0AUTH EXTERNAL\r\n"
                peer.sendall(b"DATA\r\n")
                assert lines.readline() == b"DATA\r\n"
                peer.sendall(b"OK 0123\r\n")
                assert lines.readline() == b"BEGIN\r\n"
                while head := lines.read(message.HEAD_SIZE):
                    data = head + lines.read(message.length(head) - len(head))
                    self._answer(peer, message.decode_message(data))

    def _answer(self, peer: socket.socket, call: message.Message) -> None:
        self.calls.append(call.member)
        self._serial += 1
        if call.member in self.errors:
            peer.sendall(answer(self._serial, call.serial, "s", ["told why"], self.errors[call.member]))
            return
        try:
            signature, body = getattr(self, f"_{call.member}", lambda *_: ("", []))(*call.body)
        except KeyError as e:
            peer.sendall(answer(self._serial, call.serial, "s", ["said no"], e.args[0]))
            return
        if (
            signature == "o" and self.tells
        ):  # as a busy system: the job ends before its call is answered, others' jobs in between
            for job in ("/job/other", body[0]):
                end = [self._jobs, job, call.body[0], self.result]
                peer.sendall(signalled(99, manager.PATH, manager.MANAGER, "JobRemoved", "uoss", end))
        peer.sendall(answer(self._serial, call.serial, signature, body))

    def _Hello(self) -> tuple[str, list[Any]]:
        assert self._daemon
        return "s", [":1.5"]

    def _Get(self, interface: str, name: str) -> tuple[str, list[Any]]:
        assert interface == manager.MANAGER
        found = {"Version": "252.38-1~deb12u1", "ControlGroup": "/user.slice/user-1000.slice"}[name]
        return "v", [Variant("s", found)]

    def _StartTransientUnit(self, unit: str, mode: str, given: Any, _: Any) -> tuple[str, list[Any]]:
        if unit in self.units or unit in self.failed:
            raise KeyError(f"{manager.NAME}.UnitExists")
        assert mode == "replace"
        self.units[unit] = {name: variant.value for name, variant in given}
        return self._job()

    def _SetUnitProperties(self, unit: str, runtime: bool, given: Any) -> tuple[str, list[Any]]:
        assert runtime
        self.units[unit].update({name: variant.value for name, variant in given})
        return "", []

    def _StopUnit(self, unit: str, _: str) -> tuple[str, list[Any]]:
        if self.units.pop(unit, None) is None:
            raise KeyError(f"{manager.NAME}.NoSuchUnit")
        return self._job()

    def _GetUnit(self, unit: str) -> tuple[str, list[Any]]:
        raise KeyError(f"{manager.NAME}.NoSuchUnit")

    def _ResetFailedUnit(self, unit: str) -> tuple[str, list[Any]]:
        self.failed.discard(unit)
        return "", []

    def _job(self) -> tuple[str, list[Any]]:
        self._jobs += 1
        return "o", [f"/job/{self._jobs}"]


@pytest.fixture(params=["daemon", "private"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSystemd]:
    """Behind a D-Bus daemon, and on its own socket where there is no daemon."""
    daemon = request.param == "daemon"
    path = tmp_path / "bus"
    fake = FakeSystemd(path, daemon=daemon)
    monkeypatch.setattr(manager, "_BOOTED", str(tmp_path))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path if daemon else tmp_path / 'nobody'}")
    monkeypatch.setattr(bus, "_PRIVATE", str(tmp_path / "nobody" if daemon else path))
    yield fake
    fake.close()


def started(path: str = "my.slice:box:1") -> scope.Scope:
    made = scope.Scope(names.unit(path, "1", of_user=False), of_user=False)
    made.start([Write("memory.max", "4096")], (), "1", [])
    return made


def test_a_scope_is_made_changed_and_ended(systemd: FakeSystemd) -> None:
    made = started()
    unit = systemd.units["box-1.scope"]
    assert (unit["Slice"], unit["Delegate"], unit["MemoryMax"]) == ("my.slice", True, 4096)
    assert unit["MemoryAccounting"] and unit["TasksAccounting"] and unit["CPUAccounting"]
    (holder,) = unit["PIDs"]
    os.kill(holder, 0)  # keeps the scope until the container's first process is in it
    made.settled()
    with pytest.raises(ProcessLookupError):
        os.kill(holder, 0)
    made.update([Write("pids.max", "5")])
    assert systemd.units["box-1.scope"]["TasksMax"] == 5
    made.stop()
    assert systemd.units == {}
    made.stop()


def test_a_slice_gets_no_process(systemd: FakeSystemd) -> None:
    made = started("my.slice:box:web.slice")
    unit = systemd.units["web.slice"]
    assert "PIDs" not in unit and "Slice" not in unit and unit["Wants"] == ["my.slice"]
    made.stop()


def test_annotations_take_the_place_of_what_is_given(systemd: FakeSystemd) -> None:
    made = scope.Scope(names.unit("", "1", of_user=False), of_user=False)
    made.start([], (), "1", [("Description", Variant("s", "mine"))])
    assert systemd.units["runc-1.scope"]["Description"] == "mine"
    made.stop()


def test_a_unit_that_failed_before_is_reset_and_one_that_runs_is_not_taken(systemd: FakeSystemd) -> None:
    systemd.failed.add("box-1.scope")
    made = started()
    with pytest.raises(errdefs.AlreadyExists, match=r'unable to start unit "box-1\.scope"'):
        started()
    assert "box-1.scope" in systemd.units
    made.stop()


def test_a_job_that_does_not_succeed_is_an_error_and_leaves_no_process(systemd: FakeSystemd) -> None:
    systemd.result = "failed"
    with pytest.raises(errdefs.Unavailable, match=r"creating systemd unit `box-1\.scope`: got `failed`"):
        started()
    (holder,) = systemd.units["box-1.scope"]["PIDs"]
    with pytest.raises(ProcessLookupError):
        os.kill(holder, 0)


def test_systemds_reason_is_told(systemd: FakeSystemd) -> None:
    systemd.errors["StartTransientUnit"] = "org.freedesktop.DBus.Error.AccessDenied"
    with pytest.raises(errdefs.Unavailable, match="told why"):
        started()
    systemd.errors = {"SetUnitProperties": f"{manager.NAME}.BadUnitSetting"}
    made = started()
    with pytest.raises(errdefs.InvalidArgument, match="told why"):
        made.update([Write("pids.max", "5")])
    made.stop()


def test_a_job_that_goes_with_its_unit_is_over(systemd: FakeSystemd) -> None:
    """A scope that became empty by itself: nobody tells how the job of stopping it ended."""
    made = started()
    systemd.tells = False
    made.stop()
    assert "GetUnit" in systemd.calls


def test_where_systemd_does_not_run_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(manager, "_BOOTED", str(tmp_path / "no"))
    with pytest.raises(errdefs.InvalidArgument, match="systemd not running on this host"):
        manager.Manager(of_user=False)


@pytest.mark.parametrize("systemd", ["daemon"], indirect=True)
def test_the_users_bus_is_found_in_the_environment(
    systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(errdefs.Unavailable, match="could not find the user's D-Bus"):
        manager.Manager(of_user=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = scope.Scope(names.unit("", "1", of_user=True), of_user=True)
    assert made.group() == "/user.slice/user-1000.slice/user.slice/runc-1.scope"


def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bus, "_TIMEOUT_S", 0.1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "bus"))
    listener.listen()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'bus'}")
    monkeypatch.setattr(bus, "_PRIVATE", str(tmp_path / "none"))
    with listener, pytest.raises(errdefs.Unavailable, match="in time"):
        bus.open_system()


@pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")
def test_a_real_daemon_understands_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"unix:path={tmp_path / 'bus'}"
    line = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address=1"]
    daemon = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"tcp:host=x;{address},guid=0")
        with bus.open_user() as connection:
            name = "org.freedesktop.DBus"
            (owners,) = connection.call(name, "/", name, "ListNames")
            assert name in owners
            assert connection.call(name, "/", name, "NameHasOwner", "s", name) == (True,)
            connection.subscribe(name, "NameOwnerChanged")
            connection.call(name, "/", name, "RequestName", "su", "org.example.Box", 0)
            changed = connection.signal(name, "NameOwnerChanged", lambda body: body[0] == "org.example.Box", 5)
            assert changed is not None and changed[1] == ""
            with pytest.raises(bus.Failure) as failed:
                connection.call(name, "/", name, "NoSuchMethod")
            assert failed.value.name == "org.freedesktop.DBus.Error.UnknownMethod"
    finally:
        daemon.kill()
        daemon.communicate()
