"""The path layer: whatever a hostile tree looks like, nothing outside of the root is reached or made."""

import ctypes
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rorqual.linux import libc, paths


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    fd = paths.open_root(str(tmp_path / "root"))
    yield fd
    os.close(fd)


def _real(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_absolute_links_and_dot_dot_stay_in_the_root(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/secret").write_text("own")
    (tmp_path / "root/absolute").symlink_to("/etc/secret")
    (tmp_path / "root/climbing").symlink_to("../../../../etc/secret")
    for name in ("absolute", "climbing", "/../../etc/secret"):
        assert _real(paths.open_in_root(root, name, os.O_PATH)) == str(tmp_path / "root/etc/secret")


def test_links_to_the_outside_find_nothing(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/out").symlink_to(str(tmp_path / "outside"))
    with pytest.raises(FileNotFoundError):
        paths.open_in_root(root, "out/secret", os.O_PATH)


def test_magic_links_are_refused(tmp_path: Path) -> None:
    proc = paths.open_root("/proc")
    try:
        with pytest.raises(OSError) as raised:
            paths.open_in_root(proc, "self/root/etc", os.O_PATH)
        assert raised.value.errno == errno.ELOOP
    finally:
        os.close(proc)


def test_mkdir_all_follows_links_that_lead_to_what_is_missing(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/resolv.conf").symlink_to("../run/stub/resolv.conf")
    assert _real(paths.create_in_root(root, "/etc/resolv.conf")) == str(tmp_path / "root/run/stub/resolv.conf")
    assert (tmp_path / "root/run/stub/resolv.conf").is_file()
    (tmp_path / "root/var").symlink_to(f"../..{tmp_path}/outside/new")
    made = _real(paths.mkdir_all_in_root(root, "/var/a/b"))
    assert made == f"{tmp_path}/root{tmp_path}/outside/new/a/b"
    assert os.listdir(tmp_path / "outside") == ["secret"]


def test_loops_end(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/a").symlink_to("b")
    (tmp_path / "root/b").symlink_to("a")
    for act in (paths.mkdir_all_in_root, paths.create_in_root):
        with pytest.raises(OSError) as raised:
            act(root, "a/x")
        assert raised.value.errno == errno.ELOOP


def test_a_file_on_the_way_is_an_error(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/file").write_text("")
    with pytest.raises(NotADirectoryError):
        paths.mkdir_all_in_root(root, "file/x")


def test_read_is_bounded_and_of_regular_files_only(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/big").write_bytes(b"x" * 100)
    os.mkfifo(tmp_path / "root/fifo")
    assert paths.read_in_root(root, "big", 100) == b"x" * 100
    for name, number in (("big", errno.EFBIG), ("fifo", errno.EINVAL), (".", errno.EINVAL)):
        with pytest.raises(OSError) as raised:
            paths.read_in_root(root, name, 99)
        assert raised.value.errno == number


def test_descriptors_do_not_leak(root: int, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (tmp_path / "root/loop").symlink_to("loop")
    for path in ("a/b/c", "loop/x", "a/../../b"):
        try:
            os.close(paths.mkdir_all_in_root(root, path))
        except OSError:
            pass
    assert os.listdir("/proc/self/fd") == before


_name = st.sampled_from(["a", "b", "c", "..", ".", ""])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    links=st.lists(
        st.tuples(st.lists(_name, min_size=1, max_size=3), st.booleans(), st.lists(_name, max_size=6)), max_size=6
    ),
    target=st.lists(_name, max_size=5),
)
def test_no_tree_of_links_leads_outside(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[list[str], bool, list[str]]], target: list[str]
) -> None:
    base = tmp_path_factory.mktemp("fuzz")
    (base / "root").mkdir()
    for where, absolute, to in links:
        place = [part for part in where if part not in ("..", ".", "")]
        if not place:
            continue
        directory = base / "root" / Path(*place[:-1])
        try:
            # Not through a link that is there already: it would be the test that makes something outside.
            if directory.resolve().is_relative_to(base / "root"):
                directory.mkdir(parents=True, exist_ok=True)
                (directory / place[-1]).symlink_to(("/" if absolute else "") + ("/".join(to) or "."))
        except (OSError, RuntimeError):  # RuntimeError: resolve() of a loop
            continue
    fd = paths.open_root(str(base / "root"))
    try:
        for act in (paths.mkdir_all_in_root, paths.create_in_root):
            try:
                real = _real(act(fd, "/".join(target)))
            except OSError:
                continue
            assert (real + "/").startswith(str(base / "root") + "/")
    finally:
        os.close(fd)
    assert os.listdir(base) == ["root"]


def test_a_swapper_cannot_lead_outside(root: int, tmp_path: Path) -> None:
    """A component turns from directory into symlink and back while directories are made below it."""
    (tmp_path / "root/dir").mkdir()
    os.symlink(str(tmp_path / "outside"), tmp_path / "root/link")
    stop = threading.Event()

    exchange = libc.function("renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

    def swap() -> None:
        a, b = (os.fsencode(tmp_path / "root" / name) for name in ("dir", "link"))
        while not stop.is_set():
            libc.check(exchange(-100, a, -100, b, 2))  # RENAME_EXCHANGE
            time.sleep(0)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(400):
            try:
                os.close(paths.mkdir_all_in_root(root, f"dir/{number}/x"))
            except OSError:
                pass
    finally:
        stop.set()
        thread.join()
    assert os.listdir(tmp_path / "outside") == ["secret"]


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/a/b", "/a/b"),
        ("/a/up", "/"),
        ("/a/absolute/x", "/a/b/x"),
        ("/a/b/../../..", "/"),
        ("/a/dangling/x", "/no/where/x"),
        ("/a/missing/../y", "/a/y"),
        ("", "/"),
    ],
)
def test_a_path_is_shown_as_a_process_in_the_root_would_come_to_it(tmp_path: Path, path: str, resolved: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to("../../../..")
    (tmp_path / "a" / "absolute").symlink_to("/a/b")
    (tmp_path / "a" / "dangling").symlink_to("/no/where")
    fd = paths.open_root(str(tmp_path))
    try:
        assert paths.resolved_in_root(fd, path) == resolved
    finally:
        os.close(fd)


def test_links_that_go_round_are_refused_when_shown(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("x")
    fd = paths.open_root(str(tmp_path))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            paths.resolved_in_root(fd, "/x")
    finally:
        os.close(fd)
