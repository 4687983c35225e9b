"""config.json with anything in it: a container, or an error that names the member; no traceback, hang or leftover."""

import itertools
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.processes import children

from rorqual import errdefs
from rorqual.oci import runtime
from rorqual.oci.runtime import Hook, Hooks, Spec
from rorqual.runc import container as runc

from .conftest import Bundle, group_directories

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

# Which take effect in the container that is made, or on the host, whatever the value: not of a test's to choose.
UNTRIED = {"hooks", "linux.netDevices"}
# Members whose strange values would be carried out outside of the container: they are fuzzed in type only.
OUTSIDE = {"root.path", "linux.cgroupsPath"}

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, 1, -1, 7, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 1.5, 1e300]
    ),
    st.sampled_from(
        ["", "a", "x\0y", "../../..", "/proc/self/exe", "/dev/null", "ä\n", "é" * 300, "a=b", "\ud800", "1", "bind"]
    ),
    st.text(max_size=8),
)
_values = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=3),
    st.dictionaries(st.sampled_from(["path", "type", "limit", "value", "", "a"]), _scalars, max_size=3),
)


def rich(bundle: Bundle) -> dict[str, Any]:
    """A good document that has most members."""
    spec = bundle.spec("true")
    document: dict[str, Any] = json.loads(spec.to_json())
    document["annotations"] = {"a": "b"}
    document["hooks"] = json.loads(Spec(hooks=Hooks(poststart=(Hook("/bin/true", timeout=5),))).to_json())["hooks"]
    document["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    document["process"]["user"] = {"uid": 33, "gid": 34, "umask": 63, "additionalGids": [5]}
    document["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3}
    document["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 4}
    document["process"]["consoleSize"] = {"height": 24, "width": 80}
    document["process"]["oomScoreAdj"] = 100
    linux = document["linux"]
    linux["personality"] = {"domain": "LINUX"}
    linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    linux["devices"] = [
        {"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}
    ]
    linux["rootfsPropagation"] = "rprivate"
    linux["resources"].update(
        memory={"limit": 64 << 20}, cpu={"shares": 512, "cpus": "0"}, pids={"limit": 50}, blockIO={}
    )
    linux["cgroupsPath"] = f"/{bundle.prefix}/fuzz"
    linux["seccomp"]["syscalls"] = linux["seccomp"]["syscalls"][:3]
    return document


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be replaced: of each array the first two members."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, member in value.items():
            yield from places(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value[:2]):
            yield from places(member, (*path, index))


def dotted(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


@pytest.fixture
def survivor(bundle: Bundle) -> Bundle:
    os.makedirs(bundle.root)
    return bundle


def attempt(bundle: Bundle, config: bytes) -> errdefs.Error | None:
    """Create, start and delete it: what it was refused with."""
    began = time.monotonic()
    null = os.open("/dev/null", os.O_RDWR)
    before, others = set(os.listdir("/proc/self/fd")), children()
    try:
        made = runc.create("fuzz", str(bundle.path), config, root=bundle.root, stdio=(null, null, null))
    except errdefs.Error as e:
        return e
    else:
        try:
            if made.console_fd is not None:
                os.close(made.console_fd)
            made.start()
        finally:
            made.delete(force=True)
            os.waitpid(made.pid, 0)
        return None
    finally:
        assert time.monotonic() - began < 15, "it hung"
        # Fewer of both when what earlier tests left was collected meanwhile.
        assert set(os.listdir("/proc/self/fd")) <= before, "an fd is left"
        os.close(null)
        assert [n for n in os.listdir(bundle.root) if n[0] != "."] == []
        assert children() <= others, "a child is left"
        assert not [d for d in group_directories(bundle.prefix) if os.path.isdir(f"{d}/fuzz")], "a cgroup is left"


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_one_strange_member(survivor: Bundle, data: st.DataObject) -> None:
    document = rich(survivor)
    path = data.draw(st.sampled_from(sorted(places(document), key=dotted)))
    value = data.draw(_values if dotted(path) not in OUTSIDE else st.sampled_from([0, True, [], {}, "a\0b"]))
    put(document, path, value)
    error = attempt(survivor, json.dumps(document).encode())
    if isinstance(error, errdefs.InvalidArgument):
        # The member itself, or one inside of what was put there, or the one that holds it.
        named = [key for key in path if isinstance(key, str)][-2:]
        assert any(name in str(error) for name in named), f"{dotted(path)} = {value!r}: {error}"


def members(cls: type, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every member that a document can have, as the classes say it: its path (0: in an array) and its kind."""
    for name, hint in cls.__annotations__.items():
        here = (*path, runtime._JSON_NAMES.get(name) or runtime._camel(name))
        kind = hint.removesuffix(" | None")
        if dotted(here) in UNTRIED:
            continue
        yield here, kind
        if kind.startswith("tuple["):
            here, kind = (*here, 0), kind[len("tuple[") : -len(", ...]")]
        elif kind.startswith("dict["):
            here, kind = (*here, "a"), kind[len("dict[str, ") : -len("]")]
        inner = getattr(runtime, kind, None)
        if isinstance(inner, type) and hasattr(inner, "_record_defaults"):
            yield from members(inner, here)


def graft(document: Any, path: tuple[Any, ...], value: Any) -> None:
    """As `put`, with what is missing on the way made."""
    for key, following in itertools.pairwise(path):
        empty: Any = [] if following == 0 else {}
        if isinstance(key, int):
            document.append(empty) if not document else None
            document = document[0]
        else:
            document = document.setdefault(key, empty)
    if isinstance(path[-1], int):
        document[:1] = [value]
    else:
        document[path[-1]] = value


_OF_KIND: dict[str, st.SearchStrategy[Any]] = {
    "str": st.one_of(_scalars, st.sampled_from(["rw", "SCMP_ACT_KILL", "10:0-3", "0-3", "RLIMIT_CPU", "unconfined"])),
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(st.one_of(st.sampled_from(["CAP_KILL", "rw", "a", "SCHED_FLAG_RECLAIM"]), _scalars)),
}
EVERY = sorted((path, kind) for path, kind in members(Spec) if dotted(path) not in OUTSIDE | {"root"})


def test_the_document_that_is_made_strange_has_every_kind_of_member() -> None:
    """A member that is new in the classes is tried too: at least those that this list has been seen to hold."""
    paths = {dotted(path) for path, _ in EVERY}
    assert len(paths) > 150
    assert {
        "linux.intelRdt.l3CacheSchema", "linux.timeOffsets.a.secs", "linux.personality.flags", "process.selinuxLabel",
        "process.execCPUAffinity.initial", "mounts[0].uidMappings[0].hostID", "linux.seccomp.listenerMetadata",
        "linux.resources.unified", "linux.resources.rdma.a.hcaHandles", "process.scheduler.deadline", "domainname",
    } <= paths  # fmt: skip


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_member_that_there_is(survivor: Bundle, data: st.DataObject) -> None:
    """Those too that a usual document lacks, each made where it belongs, with a value of its kind or another."""
    document = rich(survivor)
    path, kind = data.draw(st.sampled_from(EVERY))
    value = data.draw(st.one_of(_OF_KIND.get(kind, _scalars), _values))
    graft(document, path, value)
    error = attempt(survivor, json.dumps(document).encode())
    if isinstance(error, errdefs.InvalidArgument):
        named = [key for key in path if isinstance(key, str)][-3:]
        assert any(name in str(error) for name in named), f"{dotted(path)} = {value!r}: {error}"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_members_missing_and_moved(survivor: Bundle, data: st.DataObject) -> None:
    document = rich(survivor)
    every = [path for path in sorted(places(document), key=dotted) if dotted(path) not in OUTSIDE | {"root", "linux"}]
    for path in data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=3, unique=True)):
        holder = document
        for key in path[:-1]:
            if not isinstance(holder, dict | list) or (isinstance(holder, dict) and key not in holder):
                break
            holder = holder[key]  # type: ignore[index]
        else:
            if isinstance(holder, dict):
                member = holder.pop(str(path[-1]), None)
                if data.draw(st.booleans()):
                    holder[data.draw(st.sampled_from(["path", "type", "namespaces", "limit", "uid", "names"]))] = member
    attempt(survivor, json.dumps(document).encode())


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_that_are_no_document(survivor: Bundle, data: st.DataObject) -> None:
    good = json.dumps(rich(survivor)).encode()
    at = data.draw(st.integers(0, len(good)))
    broken = good[:at] + data.draw(st.binary(max_size=4)) + good[at + data.draw(st.integers(1, 40)) :]
    error = attempt(survivor, broken)
    assert error is None or str(error)


def test_a_document_nested_without_end_is_refused(survivor: Bundle) -> None:
    error = attempt(survivor, b'{"linux":' * 100_000)
    assert isinstance(error, errdefs.InvalidArgument)
    assert "invalid JSON" in str(error)
