"""Layers to disk: everything a layer may hold, and everything it must not get away with."""

import errno
import gzip
import hashlib
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from support import tars
from support.tars import END, directory, hardlink, header, member, pax, symlink

from rorqual import errdefs
from rorqual.distribution.unpack import Limits, UnpackResult, apply

pytestmark = pytest.mark.root


class Target:
    """A directory to unpack into, beside a canary that nothing may touch."""

    def __init__(self, path: Path) -> None:
        self.outside = path / "outside"
        self.outside.mkdir()
        (self.outside / "canary").write_text("alive")
        os.chmod(self.outside / "canary", 0o600)
        self.root = path / "root"
        self.root.mkdir()
        self._before = self._outside_state()

    def _outside_state(self) -> list[tuple[str, int, int, str]]:
        found = self.outside / "canary"
        info = found.stat()
        return [
            (str(path), info.st_mode, info.st_mtime_ns, found.read_text()) for path in sorted(self.outside.iterdir())
        ]

    def apply(self, *parts: bytes, whiteouts: str = "overlay", limits: Limits | None = None) -> UnpackResult:
        return self.apply_stream(io.BytesIO(b"".join(parts) + END), whiteouts, limits)

    def apply_stream(self, stream: object, whiteouts: str = "overlay", limits: Limits | None = None) -> UnpackResult:
        fd = os.open(self.root, os.O_RDONLY)
        try:
            return apply(stream, fd, whiteouts=whiteouts, limits=limits or Limits())
        finally:
            os.close(fd)

    def check_outside(self) -> None:
        assert self._outside_state() == self._before

    def __truediv__(self, name: str) -> Path:
        return self.root / name


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    found = Target(tmp_path)
    fds = len(os.listdir("/proc/self/fd"))
    yield found
    found.check_outside()
    # Fewer when what an earlier test left was collected meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= fds, "a file descriptor was leaked"


# What a layer may hold.


def test_files_keep_mode_owner_time_and_content(target: Target) -> None:
    result = target.apply(
        directory(b"d", mode=0o1777, uid=5, gid=6, mtime=1234),
        member(b"d/plain", b"hello", mode=0o640, uid=1000, gid=2000, mtime=1_600_000_000),
        member(b"d/setuid", b"x", mode=0o6755, uid=7, gid=8),
        header(b"fifo", b"6", mode=0o622),
        header(b"null", b"3", mode=0o666, major=1, minor=3),
        header(b"loop", b"4", mode=0o660, major=7, minor=1, gid=6),
        symlink(b"link", b"/etc/../whatever"),
        hardlink(b"hard", b"d/plain"),
    )
    plain = (target / "d/plain").stat()
    assert (target / "d/plain").read_bytes() == b"hello"
    assert (plain.st_mode & 0o7777, plain.st_uid, plain.st_gid, plain.st_mtime) == (0o640, 1000, 2000, 1_600_000_000)
    assert plain.st_nlink == 2 and (target / "hard").samefile(target / "d/plain")
    assert stat.S_IMODE((target / "d/setuid").stat().st_mode) == 0o6755
    place = (target / "d").stat()
    assert (stat.S_IMODE(place.st_mode), place.st_uid, place.st_mtime) == (0o1777, 5, 1234)
    assert (target / "fifo").is_fifo() and stat.S_IMODE((target / "fifo").stat().st_mode) == 0o622
    assert os.stat(target / "null").st_rdev == os.makedev(1, 3) and (target / "null").is_char_device()
    assert os.stat(target / "loop").st_rdev == os.makedev(7, 1) and (target / "loop").is_block_device()
    assert os.readlink(target / "link") == "/etc/../whatever"
    assert (result.entries, result.size) == (8, 6)


def _skippable(data: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50, len(data)) + data


def _zstd_chunked(tar: bytes) -> bytes:
    """A frame for each part, then a table of contents and a footer in frames that decompressors skip."""
    half = len(tar) // 2
    toc = zstandard.compress(b'{"version":1,"entries":[]}')
    footer = struct.pack("<QQQQ", len(tar), len(toc), 26, 1) + b"GNUlInUx"
    parts = [zstandard.compress(tar[:half]), zstandard.compress(tar[half:]), _skippable(toc), _skippable(footer)]
    return b"".join(parts)


def _estargz(tar: bytes) -> bytes:
    """A gzip member for each part, and an empty one whose extra field says where the table of contents is."""
    half = len(tar) // 2
    extra = b"SG" + struct.pack("<H", 22) + b"%016xSTARGZ" % half
    footer = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + struct.pack("<H", len(extra)) + extra
    footer += b"\x01\x00\x00\xff\xff" + bytes(8)
    assert gzip.decompress(footer) == b""
    return gzip.compress(tar[:half]) + gzip.compress(tar[half:]) + footer


@pytest.mark.parametrize(
    "pack",
    ["plain", "gzip", "gzip members", "estargz", "zstd", "zstd frames", "zstd:chunked", "zstd after a skipped frame"],
)
def test_every_compression_gives_the_same_diff_id(target: Target, pack: str) -> None:
    tar = member(b"f", os.urandom(100_000)) + END + bytes(9 * 1024)
    half = len(tar) // 2
    packed = {
        "plain": tar,
        "gzip": gzip.compress(tar),
        "gzip members": gzip.compress(tar[:half]) + gzip.compress(tar[half:]),
        "estargz": _estargz(tar),
        "zstd": zstandard.compress(tar),
        "zstd frames": zstandard.compress(tar[:half]) + zstandard.compress(tar[half:]),
        "zstd:chunked": _zstd_chunked(tar),
        "zstd after a skipped frame": _skippable(bytes(70_000)) + zstandard.compress(tar),
    }[pack]
    result = target.apply_stream(io.BytesIO(packed))
    assert result.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert result.compressed_size == len(packed)
    assert (target / "f").stat().st_size == 100_000


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_links_and_numbers_of_every_format(target: Target, format: int) -> None:
    long = "p" * 60 + "/" + "q" * 90 if format == tarfile.USTAR_FORMAT else "/".join(["n" * 90] * 4)
    target_name = "t" * (90 if format == tarfile.USTAR_FORMAT else 300)
    file, link = tarfile.TarInfo(long), tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, target_name
    if format != tarfile.USTAR_FORMAT:
        file.uid = file.gid = 3_000_000  # above what seven octal digits hold
    target.apply_stream(io.BytesIO(tars.with_tarfile([(file, b"data"), (link, b"")], format)))
    assert (target / long).read_bytes() == b"data" and (target / long).stat().st_uid == file.uid
    assert os.readlink(target / "link") == target_name


def test_pax_times_and_unicode_names(target: Target) -> None:
    name = "grüße-日本".encode()
    target.apply(pax([(b"path", name), (b"mtime", b"1700000000.123456789")]), member(b"short", b"x"))
    assert os.stat(os.fsencode(target.root) + b"/" + name).st_mtime_ns == 1_700_000_000_123_456_789


@pytest.mark.parametrize("flavour", ["gnu", "pax 0.0", "pax 0.1", "pax 1.0"])
def test_sparse_files_of_every_format(target: Target, tmp_path: Path, flavour: str) -> None:
    source = tmp_path / "sparse"
    with open(source, "wb") as file:
        for part in range(12):
            file.seek(part * 1_000_000)
            file.write(bytes([part + 1]) * 5000)
        file.truncate(20_000_000)
    format = ["--format=gnu"] if flavour == "gnu" else ["--format=pax", f"--sparse-version={flavour.split()[1]}"]
    made = subprocess.run(
        ["tar", "-S", *format, "-C", tmp_path, "-c", "sparse"], check=True, capture_output=True
    ).stdout
    assert len(made) < 500_000
    result = target.apply_stream(io.BytesIO(made))
    assert (target / "sparse").read_bytes() == source.read_bytes()
    assert (target / "sparse").stat().st_blocks * 512 < 1_000_000 and result.size == 20_000_000


def test_xattrs_are_set_after_chown(target: Target) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    target.apply(
        pax([(b"SCHILY.xattr.security.capability", capability), (b"SCHILY.xattr.user.note", b"a\nb=c")]),
        member(b"f", b"x", uid=1000, mode=0o4755),
    )
    assert os.getxattr(target / "f", "security.capability") == capability
    assert os.getxattr(target / "f", "user.note") == b"a\nb=c"
    assert stat.S_IMODE((target / "f").stat().st_mode) == 0o4755


def test_unsupported_xattrs_are_ignored_and_told(target: Target) -> None:
    result = target.apply(pax([(b"SCHILY.xattr.user.x", b"y")]), symlink(b"l", b"t"))
    assert (target / "l").is_symlink() and len(result.ignored) == 1


def test_overlay_xattrs_of_a_layer_are_ignored(target: Target) -> None:
    result = target.apply(pax([(b"SCHILY.xattr.trusted.overlay.redirect", b"/etc")]), directory(b"d"))
    with pytest.raises(OSError) as caught:
        os.getxattr(target / "d", "trusted.overlay.redirect")
    assert caught.value.errno == errno.ENODATA and len(result.ignored) == 1


def test_missing_parents_are_made_and_told(target: Target) -> None:
    result = target.apply(directory(b"a"), member(b"a/b/c/file", b"x"))
    assert result.implied_dirs == (b"a/b", b"a/b/c")
    assert stat.S_IMODE((target / "a/b").stat().st_mode) == 0o755


def test_a_directory_whose_entry_comes_after_what_is_in_it_is_not_implied(target: Target) -> None:
    late = directory(b"a/b", mode=0o711) + member(b"c/.wh.gone") + directory(b"./c/", mode=0o700)
    result = target.apply(member(b"a/b/f", b"x"), late)
    assert result.implied_dirs == (b"a",)
    assert stat.S_IMODE((target / "a/b").stat().st_mode) == 0o711


def test_many_directories_do_not_use_up_descriptors(target: Target) -> None:
    target.apply(*(directory(b"d%d" % n) + member(b"d%d/f" % n, b"x") for n in range(3000)))
    assert len(list(target.root.iterdir())) == 3000


# Whiteouts.


def test_overlay_whiteouts(target: Target) -> None:
    target.apply(
        directory(b"d"), member(b"d/.wh.gone"), directory(b"o"), member(b"o/.wh..wh..opq"), member(b"o/kept", b"1")
    )
    gone = os.stat(target / "d/gone")
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(target / "o", "trusted.overlay.opaque") == b"y"
    assert (target / "o/kept").exists() and not (target / "o/.wh..wh..opq").exists()


def test_overlay_whiteout_never_hides_what_its_own_layer_has(target: Target) -> None:
    target.apply(
        member(b"file", b"new"), member(b".wh.file"), directory(b"dir"), member(b"dir/x", b"x"), member(b".wh.dir"),
        member(b".wh.later"), member(b"later", b"later"), member(b".wh.tree"), directory(b"tree"),
    )  # fmt: skip
    assert (target / "file").read_bytes() == b"new" and (target / "dir/x").exists()
    assert (target / "later").read_bytes() == b"later"
    # The layers below must not shine through.
    for name in ("dir", "tree"):
        assert os.getxattr(target / name, "trusted.overlay.opaque") == b"y"


def test_plain_whiteouts_remove_what_is_below_and_keep_their_own(target: Target) -> None:
    for name in ("below", "d/old/deep", "o/old", "o/new/older"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("below")
    target.apply(
        member(b".wh.below"), member(b"d/.wh.old"), directory(b"o"), directory(b"o/new"), member(b"o/new/own", b"1"),
        member(b"o/implied/own", b"2"), member(b"o/.wh..wh..opq"), member(b".wh.never-there"), whiteouts="plain",
    )  # fmt: skip
    assert sorted(str(path.relative_to(target.root)) for path in target.root.rglob("*")) == [
        "d", "o", "o/implied", "o/implied/own", "o/new", "o/new/older", "o/new/own",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh..", b"d/.wh..."])
def test_whiteout_of_the_directory_itself_is_refused(target: Target, name: bytes) -> None:
    (target / "d").mkdir()
    with pytest.raises(errdefs.InvalidArgument, match="invalid whiteout name"):
        target.apply(member(name), whiteouts="plain")
    assert (target / "d").is_dir()


# Duplicates.


def test_later_entries_replace_earlier_ones_of_any_kind(target: Target) -> None:
    target.apply(
        member(b"a", b"1"), member(b"a", b"22"),
        member(b"b", b"1"), directory(b"b"), member(b"b/in", b"x"),
        directory(b"c"), member(b"c/in", b"x"), member(b"c", b"now a file"),
        symlink(b"s", b"x"), symlink(b"s", b"y"),
        directory(b"e", mode=0o700), member(b"e/kept", b"1"), directory(b"e", mode=0o711),
        member(b"h1", b"x"), hardlink(b"h2", b"h1"), hardlink(b"h2", b"h1"), member(b"h3"), hardlink(b"h3", b"h1"),
    )  # fmt: skip
    assert (target / "a").read_bytes() == b"22" and (target / "b/in").exists()
    assert (target / "c").read_bytes() == b"now a file" and os.readlink(target / "s") == "y"
    assert stat.S_IMODE((target / "e").stat().st_mode) == 0o711 and (target / "e/kept").exists()
    assert (target / "h1").stat().st_nlink == 3


def test_a_replaced_link_does_not_leave_the_old_parent_open(target: Target) -> None:
    target.apply(
        directory(b"one"), directory(b"two"), symlink(b"l", b"one"), member(b"l/a", b"1"), symlink(b"l", b"two"),
        member(b"l/b", b"2"),
    )  # fmt: skip
    assert sorted(os.listdir(target / "one")) == ["a"] and sorted(os.listdir(target / "two")) == ["b"]


# What a layer must not get away with.


@pytest.mark.parametrize("name", [b"../x", b"../../../../x", b"/x", b"//x", b"a/../../x", b"./../x", b"/../x"])
def test_names_that_climb_stay_in_the_root(target: Target, name: bytes) -> None:
    target.apply(member(name, b"1"))
    assert (target / "x").read_bytes() == b"1"


@pytest.mark.parametrize("name", [b".", b"/", b"..", b"a/..", b"./"])
def test_the_root_itself_is_left_alone(target: Target, name: bytes) -> None:
    os.chmod(target.root, 0o711)
    target.apply(directory(name, mode=0o777, uid=1000))
    assert stat.S_IMODE(target.root.stat().st_mode) == 0o711 and target.root.stat().st_uid == os.getuid()


@pytest.mark.parametrize("link", ["../outside", "{outside}", "../../../../../../../../{outside}", "/proc/self/cwd"])
def test_cve_2025_47290_writing_through_a_link_stays_in_the_root(target: Target, link: str) -> None:
    text = link.format(outside=target.outside).encode()
    try:
        target.apply(symlink(b"l", text), member(b"l/canary", b"dead"), directory(b"l/dir"))
    except errdefs.InvalidArgument:
        pass
    target.check_outside()


def test_cve_2025_47290_a_file_written_over_a_link_replaces_the_link(target: Target) -> None:
    target.apply(symlink(b"l", os.fsencode(target.outside / "canary")), member(b"l", b"dead"))
    assert not (target / "l").is_symlink() and (target / "l").read_bytes() == b"dead"


def test_a_dangling_link_as_parent_is_followed_inside_the_root(target: Target) -> None:
    target.apply(directory(b"var"), symlink(b"var/run", b"/run"), member(b"var/run/pid", b"1"))
    assert (target / "run/pid").read_bytes() == b"1" and (target / "var/run").is_symlink()


def test_links_in_a_circle_are_refused(target: Target) -> None:
    with pytest.raises(errdefs.InvalidArgument, match='layer entry "a/x"'):
        target.apply(symlink(b"a", b"b"), symlink(b"b", b"a"), member(b"a/x", b"1"))


def test_cve_2021_32760_modes_and_times_are_never_set_through_a_link(target: Target) -> None:
    outside = os.fsencode(target.outside)
    target.apply(
        directory(b"d", mode=0o777, mtime=1), symlink(b"d", outside),
        header(b"s", b"2", link=outside, mode=0o777, mtime=1),
        directory(b"e/f", mtime=1), symlink(b"e", outside),
    )  # fmt: skip
    assert (target / "d").is_symlink() and os.lstat(target / "s").st_mtime == 1


@pytest.mark.parametrize("link", [b"../outside/canary", b"a/../../outside/canary", b"/../outside/canary"])
def test_hard_links_that_leave_the_root_are_refused(target: Target, link: bytes) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=r'layer entry "h": hard link to .* outside of the layer'):
        target.apply(hardlink(b"h", link))
    assert not (target / "h").exists()


def test_hard_link_by_way_of_a_symlink_stays_in_the_root(target: Target) -> None:
    later = target.apply(symlink(b"l", b"../outside"), hardlink(b"h", b"l/canary"), member(b"h", b"dead"))
    assert later.links == ((b"h", b"l/canary"),) and (target / "h").read_bytes() == b"dead"
    with pytest.raises(errdefs.InvalidArgument):
        target.apply(symlink(b"l", b"../outside"), hardlink(b"h2", b"l/canary"), whiteouts="plain")
    target.apply(symlink(b"c", os.fsencode(target.outside / "canary")), hardlink(b"k", b"c"))
    assert (target / "k").is_symlink()


def test_hard_link_to_nothing_is_refused_or_left_to_who_knows_the_layers_below(target: Target) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="which is not in the layer"):
        target.apply(hardlink(b"h", b"nowhere"), whiteouts="plain")
    result = target.apply(member(b"h"), hardlink(b"./h", b"/no/where/"), hardlink(b"d/i", b"nowhere"))
    assert result.links == ((b"h", b"no/where"), (b"d/i", b"nowhere"))
    assert sorted(p.name for p in target.root.rglob("*")) == ["d"], "nothing is made where the file would be"


def test_device_nodes_are_made_below_the_root_only(target: Target) -> None:
    target.apply(symlink(b"l", os.fsencode(target.outside)), header(b"../../n", b"3", major=1, minor=3))
    with pytest.raises(errdefs.InvalidArgument):
        target.apply(header(b"l/../../../n/x", b"4", major=8))
    assert sorted(os.listdir(target.outside)) == ["canary"]


def test_device_number_out_of_range_is_refused(target: Target) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="out of range"):
        target.apply(header(b"d", b"3", major=1 << 12))


def test_a_file_as_parent_is_refused(target: Target) -> None:
    with pytest.raises(errdefs.InvalidArgument, match='layer entry "f/x": Not a directory'):
        target.apply(member(b"f", b"1"), member(b"f/x", b"2"))


def test_ten_million_entries_are_refused_at_the_limit(target: Target) -> None:
    limits = Limits(max_entries=1000)
    with pytest.raises(errdefs.ResourceExhausted, match="more than 1000 entries"):
        target.apply(*(header(b"../same", b"0") for _ in range(1002)), limits=limits)


def test_gzip_bomb_is_refused_by_size_and_by_ratio(target: Target) -> None:
    bomb = gzip.compress(header(b"zeros", b"0", 50 << 20) + bytes(50 << 20) + END)
    assert len(bomb) < 100_000
    with pytest.raises(errdefs.ResourceExhausted, match="when decompressed"):
        target.apply_stream(io.BytesIO(bomb), limits=Limits(max_stream_bytes=10 << 20))
    with pytest.raises(errdefs.ResourceExhausted, match="200 times as many"):
        target.apply_stream(io.BytesIO(bomb), limits=Limits(ratio_free_bytes=10 << 20))


def test_zstd_bomb_does_not_grow_in_memory(target: Target) -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    bomb = packer.compress(header(b"zeros", b"0", 1 << 30))
    bomb += b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    assert len(bomb) < 200_000
    script = (
        "import io,os,sys\n"
        "from rorqual.distribution.unpack import apply, Limits\n"
        "from rorqual.errdefs import ResourceExhausted\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "data = sys.stdin.buffer.read()\n"
        "try: apply(io.BytesIO(data), fd, limits=Limits(max_stream_bytes=64 << 20))\n"
        "except ResourceExhausted: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, target.root], input=bomb, capture_output=True, check=True)
    assert int(done.stdout) < 100_000, f"{int(done.stdout)} KiB"


def test_sparse_bomb_is_refused(target: Target) -> None:
    records = [(b"GNU.sparse.map", b"0,512"), (b"GNU.sparse.realsize", b"%d" % (1 << 50))]
    with pytest.raises(errdefs.ResourceExhausted, match="files of more than"):
        target.apply(pax(records), member(b"huge", bytes(512)))
    assert not (target / "huge").exists()


@pytest.mark.parametrize(
    "map", [b"0,512,100,10", b"512,512", b"0,1024", b"5,x", b"0,-5", b",".join([b"0,0"] * 100_002)]
)
def test_bad_sparse_maps_are_refused(target: Target, map: bytes) -> None:
    with pytest.raises((errdefs.InvalidArgument, errdefs.ResourceExhausted)):
        target.apply(pax([(b"GNU.sparse.map", map), (b"GNU.sparse.size", b"600")]), member(b"f", bytes(512)))


def test_too_long_too_deep_and_nul_names_are_refused(target: Target) -> None:
    for name in (b"x" * 5000, b"d/" * 1100 + b"x", b"x" * 256, b"nul\0byte", b"nul\0dir/byte"):
        with pytest.raises(errdefs.InvalidArgument, match="layer entry"):
            target.apply(pax([(b"path", name)]), member(b"short", b"1"))


def test_huge_headers_and_xattrs_are_refused(target: Target) -> None:
    with pytest.raises(errdefs.ResourceExhausted):
        target.apply(header(b"pax", b"x", 1 << 30))
    with pytest.raises(errdefs.ResourceExhausted):
        target.apply(pax([(b"SCHILY.xattr.user.x", bytes(70_000))]), member(b"f"))
    with pytest.raises(errdefs.ResourceExhausted):
        target.apply(pax([(b"SCHILY.xattr.user.%d" % n, b"x") for n in range(300)]), member(b"f"))
    with pytest.raises(errdefs.InvalidArgument, match="more than 16 extended headers"):
        target.apply(*[pax([(b"path", b"x")])] * 20, member(b"f"))


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(member(b"f", bytes(2000))[:1500], id="cut in the data"),
        pytest.param(member(b"f", bytes(2000))[:300], id="cut in a header"),
        pytest.param(pax([(b"path", b"x")]), id="cut behind an extended header"),
        pytest.param(b"\xff" * 1024, id="garbage"),
        pytest.param(gzip.compress(member(b"f", os.urandom(9000)) + END)[:-2000], id="cut gzip"),
        pytest.param(gzip.compress(member(b"f", os.urandom(9000)) + END)[:-8] + bytes(8), id="gzip checksum"),
        pytest.param(zstandard.compress(member(b"f", os.urandom(9000)) + END)[:-2000], id="cut zstd"),
    ],
)
def test_damaged_streams_are_data_loss(target: Target, stream: bytes) -> None:
    with pytest.raises((errdefs.DataLoss, errdefs.InvalidArgument)):
        target.apply_stream(io.BytesIO(stream))


def test_unknown_type_is_refused_by_name(target: Target) -> None:
    with pytest.raises(errdefs.InvalidArgument, match='layer entry "odd": unhandled tar header type'):
        target.apply(header(b"odd", b"M"))


def test_errors_of_the_stream_pass_as_they_are(target: Target) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise ConnectionResetError(errno.ECONNRESET, "peer went away")

    with pytest.raises(ConnectionResetError):
        target.apply_stream(Broken())


def test_umask_does_not_matter_and_is_restored(target: Target) -> None:
    old = os.umask(0o077)
    try:
        target.apply(member(b"f", b"x", mode=0o666), header(b"n", b"3", mode=0o666, major=1, minor=3))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)
    assert stat.S_IMODE((target / "f").stat().st_mode) == stat.S_IMODE((target / "n").stat().st_mode) == 0o666


def test_empty_layer(target: Target) -> None:
    result = target.apply()
    assert result.diff_id == "sha256:" + hashlib.sha256(END).hexdigest() and result.entries == 0
