"""Trees to tars and back: byte for byte, whoever changes the tree meanwhile."""

import asyncio
import hashlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tars import BLOCK

from rorqual import errdefs
from rorqual.distribution.pack import Member, Options, Packed, Packer, Stream, Write
from rorqual.distribution.unpack import apply

pytestmark = pytest.mark.root

OVERLAY = Options(whiteouts="overlay")
UPPER_OPAQUE = "trusted.overlay.opaque"


def packed(directory: Path, options: Options | None = None, prefix: bytes = b"") -> bytes:
    out: list[bytes] = []
    packer = Packer(out.append, options)
    fd = os.open(directory, os.O_RDONLY)
    try:
        packer.tree(fd, prefix)
        result = packer.finish()
    finally:
        os.close(fd)
    data = b"".join(out)
    assert result.size == len(data)
    return data


def unpacked(data: bytes, directory: Path) -> str:
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY)
    try:
        return apply(io.BytesIO(data), fd).diff_id
    finally:
        os.close(fd)


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        return {info.name: info for info in tar.getmembers()}


# ---- any tree ----

# A tar begins with a name; one that begins as a compressed stream is taken for that, as by containerd.
MAGIC = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zX")
names = st.binary(min_size=1, max_size=130).filter(
    lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b"..") and not b.startswith((b".wh.", *MAGIC))
)
times = st.integers(-(2**31), 2**33)
owners = st.integers(0, 2**32 - 2)
modes = st.integers(0, 0o7777)
contents = st.one_of(
    st.binary(max_size=2000),
    st.integers(0, 3 << 20).map(lambda n: ("holes", n)),
)
attributes = st.dictionaries(
    st.sampled_from([b"user.a", b"user.b=c", b"trusted.t"]), st.binary(max_size=100), max_size=3
)
nodes = st.recursive(
    st.one_of(
        st.tuples(st.just("file"), modes, owners, times, attributes, contents),
        st.tuples(st.just("link"), modes, owners, times, st.just({}), st.binary(min_size=1, max_size=200)),
        st.tuples(st.just("fifo"), modes, owners, times, st.just({}), st.just(None)),
        st.tuples(st.just("device"), modes, owners, times, st.just({}), st.integers(1, 4000)),
        st.tuples(st.just("whiteout"), st.just(0), st.just(0), st.just(0), st.just({}), st.just(None)),
        st.tuples(st.just("hardlink"), modes, owners, times, st.just({}), st.just(None)),
    ),
    lambda children: st.tuples(
        st.sampled_from(["dir", "opaque"]),
        modes,
        owners,
        times,
        attributes,
        st.dictionaries(names, children, max_size=5),
    ),
    max_leaves=12,
)
trees = st.dictionaries(names, nodes, max_size=6)


def make(directory: bytes, tree: dict[bytes, tuple], made: list[bytes]) -> None:  # type: ignore[type-arg]
    for name, (kind, mode, owner, time, xattrs, content) in tree.items():
        path = os.path.join(directory, name)
        if kind == "file":
            with open(path, "wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    file.truncate(content[1])
                    file.seek(content[1] // 2)
                    file.write(b"data")
            made.append(path)
        elif kind == "link":
            if b"\0" in content:
                continue
            os.symlink(content, path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, stat.S_IFBLK, os.makedev(content, content))
        elif kind == "whiteout":
            os.mknod(path, stat.S_IFCHR, 0)
            continue
        elif kind == "hardlink":
            if not made:
                continue
            os.link(made[-1], path)
            continue
        else:
            os.mkdir(path)
            make(path, content, made)
            if kind == "opaque":
                os.setxattr(path, UPPER_OPAQUE, b"y")
        os.chown(path, owner, owner // 2, follow_symlinks=False)
        if kind != "link":
            os.chmod(path, mode)
        for key, value in xattrs.items():
            os.setxattr(path, key, value)
        os.utime(path, ns=(0, time * 10**9), follow_symlinks=False)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees)
def test_any_tree_survives_the_round_trip_byte_for_byte(tree: dict) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as text:
        top = Path(text)
        (top / "one").mkdir()
        make(os.fsencode(top / "one"), tree, [])
        first = packed(top / "one", OVERLAY)
        diff_id = unpacked(first, top / "two")
        assert diff_id == f"sha256:{hashlib.sha256(first).hexdigest()}"
        assert packed(top / "two", OVERLAY) == first
        shutil.rmtree(top / "one")


# ---- what others make of it ----


def test_gnu_tar_finds_the_same_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d" / ("n" * 120)).mkdir(parents=True)
    (source / "d" / "file").write_bytes(b"x" * 70_000)
    os.link(source / "d" / "file", source / "hard")
    os.symlink("d/file", source / "soft")
    os.mkfifo(source / "pipe")
    with open(source / "holes", "wb") as file:
        file.truncate(5 << 20)
        file.seek(1 << 20)
        file.write(b"middle")
    os.setxattr(source / "hard", "user.note", b"v")
    os.chown(source / "soft", 12, 34, follow_symlinks=False)
    target = tmp_path / "target"
    target.mkdir()
    data = packed(source)
    assert len(data) < 200_000
    subprocess.run(["tar", "-xpf", "-", "--xattrs", "-C", target], input=data, check=True)
    assert packed(target) == data
    assert (target / "holes").read_bytes() == (source / "holes").read_bytes()
    assert (target / "holes").stat().st_blocks * 512 < 1 << 20
    assert os.path.samefile(target / "hard", target / "d" / "file")


def test_a_prefix_names_the_tree_itself_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("b")
    assert list(members(packed(tmp_path / "a", prefix=b"x/y"))) == ["x/y", "x/y/b"]


def test_one_path_is_packed_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "in").write_text("")
    out: list[bytes] = []
    packer = Packer(out.append)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        packer.path(fd, b"file", b"renamed")
        packer.path(fd, b"dir", b"d2")
        with pytest.raises(FileNotFoundError):
            packer.path(fd, b"missing", b"m")
    finally:
        os.close(fd)
    packer.member(Member(b"made.json"), b"{}")
    packer.file(Member(b"stream", size=6), iter([b"abc", b"def"]))
    packer.finish()
    assert list(members(b"".join(out))) == ["renamed", "d2", "d2/in", "made.json", "stream"]


def test_a_stream_of_another_length_is_refused() -> None:
    for pieces in ([b"abc"], [b"abcdefg"]):
        with pytest.raises(errdefs.Conflict):
            Packer(lambda _: None).file(Member(b"stream", size=6), iter(pieces))


def test_owners_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    os.chown(tmp_path / "f", 100_005, 100_006)
    data = packed(tmp_path, Options(owner=lambda uid, gid: (uid - 100_000, gid - 100_000)))
    found = members(data)["f"]
    assert (found.uid, found.gid) == (5, 6)


# ---- overlayfs ----


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    yield tmp_path
    subprocess.run(["umount", tmp_path / "merged"], check=False, capture_output=True)


def test_an_upper_directory_becomes_a_layer_with_whiteouts(overlay: Path) -> None:
    lower, merged = overlay / "lower", overlay / "merged"
    for name in ("keep", "gone", "dir/old", "replaced/old"):
        (lower / name).parent.mkdir(exist_ok=True)
        (lower / name).write_text(name)
    options = f"lowerdir={lower},upperdir={overlay / 'upper'},workdir={overlay / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    (merged / "gone").unlink()
    (merged / "dir" / "new").write_text("new")
    (merged / "dir" / "old").unlink()
    shutil.rmtree(merged / "replaced")
    (merged / "replaced").mkdir()
    (merged / ".wh.trap").write_text("must not hide trap")
    assert sorted(members(packed(overlay / "upper", OVERLAY))) == [
        ".wh.gone",
        "dir",
        "dir/.wh.old",
        "dir/new",
        "replaced",
        "replaced/.wh..wh..opq",
    ]


def test_an_upper_directory_that_a_layer_cannot_express_is_refused(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    os.setxattr(tmp_path / "moved", "trusted.overlay.redirect", b"/elsewhere")
    with pytest.raises(errdefs.Conflict, match="redirect"):
        packed(tmp_path, OVERLAY)


# ---- hostile and busy trees ----


def test_neither_devices_nor_fifos_are_opened_and_sockets_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    # No driver has this number: opening it would fail.
    os.mknod(tmp_path / "device", stat.S_IFCHR, os.makedev(4095, 77))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        assert list(members(packed(tmp_path))) == ["device", "pipe"]


def test_no_link_is_followed_while_it_is_swapped(tmp_path: Path) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (outside / "canary").write_text("secret")
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "canary").write_text("mine")
    os.symlink(outside, tree / "link")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(tree / "d", tree / "kept")
            os.rename(tree / "link", tree / "d")
            os.rename(tree / "d", tree / "link")
            os.rename(tree / "kept", tree / "d")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(100):
            assert b"secret" not in packed(tree)
    finally:
        stop.set()
        swapper.join()


@pytest.mark.parametrize("name", ["d", "f"])
def test_what_is_swapped_for_a_link_once_it_was_looked_at_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The moment that the race above may miss: right after a directory, or a file, was opened to be looked at."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (outside / "canary").write_text("secret")
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "canary").write_text("mine")
    (tree / "f").write_text("mine")
    opened = os.open

    def swapping(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = opened(path, flags, mode, dir_fd=dir_fd)
        if os.fsencode(path) == name.encode() and not (tree / name).is_symlink():
            os.rename(tree / name, tmp_path / "kept")
            os.symlink(outside if name == "d" else outside / "canary", tree / name)
        return fd

    monkeypatch.setattr(os, "open", swapping)
    data = packed(tree)
    assert (tree / name).is_symlink()
    assert b"secret" not in data and data.count(b"mine") == 2


def test_a_deep_tree_needs_few_descriptors_and_a_deeper_one_is_refused(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    seen: list[int] = []

    def write(_: bytes) -> None:
        seen.append(len(os.listdir("/proc/self/fd")))

    def dig(levels: int) -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        for _ in range(levels):
            try:
                os.mkdir("d", dir_fd=fd)
            except FileExistsError:
                pass
            step = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = step
        os.close(fd)

    dig(900)
    packer = Packer(write)
    fd = os.open(tmp_path, os.O_RDONLY)
    packer.tree(fd)
    assert packer.finish().entries == 900
    assert max(seen) - before < 50
    dig(1100)
    with pytest.raises(errdefs.ResourceExhausted):
        Packer(write).tree(fd)
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) <= before  # fewer when what an earlier test left was collected meanwhile
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_a_file_that_shrinks_is_filled_up(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * (2 << 20))
    out: list[bytes] = []

    def write(data: bytes) -> None:
        out.append(data)
        os.truncate(tmp_path / "log", 1000)

    fd = os.open(tmp_path, os.O_RDONLY)
    packer = Packer(write)
    packer.tree(fd)
    packer.finish()
    os.close(fd)
    data = b"".join(out)
    assert len(data) == (2 << 20) + 3 * BLOCK
    assert members(data)["log"].size == 2 << 20


# ---- for an event loop ----


def pack_into(directory: Path, write: Write) -> Packed:
    fd = os.open(directory, os.O_RDONLY)
    try:
        packer = Packer(write)
        packer.tree(fd)
        return packer.finish()
    finally:
        os.close(fd)


async def test_a_stream_is_the_tar_and_its_result(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(6 << 20))
    out = []
    async with Stream(lambda write: pack_into(tmp_path, write)) as stream:
        async for piece in stream:
            assert stream._queue.qsize() <= 4
            out.append(piece)
            await asyncio.sleep(0)
    assert b"".join(out) == packed(tmp_path)
    assert stream.result.entries == 1


async def test_a_stream_left_early_ends_its_thread_and_closes_its_files(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(1) * (30 << 20))
    os.truncate(tmp_path / "f", 30 << 20)
    before = len(os.listdir("/proc/self/fd"))
    async with Stream(lambda write: pack_into(tmp_path, write)) as stream:
        async for _ in stream:
            break
    assert not any(thread.name == "pack" for thread in threading.enumerate())
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_what_goes_wrong_in_the_thread_is_raised_to_the_reader(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with Stream(lambda write: pack_into(tmp_path / "missing", write)) as stream:
            async for _ in stream:
                pass
