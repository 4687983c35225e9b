"""Archives that are copied, not layered: names of whiteouts, other owners, bzip2 and xz, absolute names of a tree."""

import bz2
import io
import lzma
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rorqual.distribution.pack import Packer
from rorqual.distribution.unpack import Copying, apply
from rorqual.errdefs import DataLoss, InvalidArgument


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.uid, info.gid = os.getuid(), os.getgid()
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = 0 if name.endswith("/") else 4
            tar.addfile(info, io.BytesIO(b"data"))
    return out.getvalue()


def copy(data: bytes, root: Path, into: str, keep_kinds: bool = False) -> None:
    fd = os.open(root, os.O_RDONLY)
    try:
        apply(io.BytesIO(data), fd, copying=Copying(into.encode(), keep_kinds=keep_kinds))
    finally:
        os.close(fd)


def test_names_of_whiteouts_are_names(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "kept").write_bytes(b"")
    copy(archive(".wh.kept", ".wh..wh..opq"), tmp_path, "/d")
    assert sorted(os.listdir(tmp_path / "d")) == [".wh..wh..opq", ".wh.kept", "kept"]


def test_links_on_the_way_are_resolved_from_the_root_not_from_the_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "d" / "link").symlink_to("/etc")
    copy(archive("link/file", "../../climbing"), tmp_path, "d")
    assert (tmp_path / "etc" / "file").read_bytes() == b"data"
    assert (tmp_path / "d" / "climbing").exists() and not (tmp_path / "climbing").exists()


def test_kinds_are_kept_when_asked(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(InvalidArgument, match="cannot overwrite directory"):
        copy(archive("name"), tmp_path, "", keep_kinds=True)
    copy(archive("name"), tmp_path, "")
    with pytest.raises(InvalidArgument, match="cannot overwrite non-directory"):
        copy(archive("name/"), tmp_path, "", keep_kinds=True)


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_bzip2_and_xz_are_read_several_streams_too(tmp_path: Path, compress: object) -> None:
    data = archive("first", "second")
    halves = compress(data[:700]) + compress(data[700:])  # type: ignore[operator]
    copy(halves, tmp_path, "")
    assert sorted(os.listdir(tmp_path)) == ["first", "second"]
    with pytest.raises(DataLoss):
        copy(halves[:-10], tmp_path, "")


def test_xz_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20}]
    with pytest.raises(DataLoss, match=r"[Mm]emory"):
        copy(lzma.compress(archive("f"), filters=filters), tmp_path, "")


def test_a_tree_packs_with_absolute_names(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    out = io.BytesIO()
    fd = os.open(tmp_path, os.O_RDONLY)
    packer = Packer(out.write)
    packer.tree(fd, b"/")
    packer.finish()
    os.close(fd)
    raw = out.getvalue()
    assert raw[:2] == b"/\0" and raw[512:515] == b"/f\0"


def test_cve_2018_15664_a_fifo_swapped_for_a_link_does_not_change_the_hosts_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Special bits are set by a call of its own, between which and the making a container has its moment."""
    canary = tmp_path / "canary"
    canary.write_bytes(b"")
    canary.chmod(0o600)
    root = tmp_path / "root"
    root.mkdir()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("pipe")
        info.type, info.mode, info.uid, info.gid = tarfile.FIFOTYPE, 0o4777, os.getuid(), os.getgid()
        tar.addfile(info)
    chown = os.chown

    def swapped(path: str, uid: int, gid: int, **more: Any) -> None:
        chown(path, uid, gid, **more)
        (root / "pipe").unlink()
        (root / "pipe").symlink_to(canary)

    monkeypatch.setattr(os, "chown", swapped)
    with pytest.raises(InvalidArgument, match="pipe"):
        copy(out.getvalue(), root, "")
    assert canary.stat().st_mode & 0o7777 == 0o600


def test_a_fifo_keeps_its_special_bits(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("pipe")
        info.type, info.mode, info.uid, info.gid = tarfile.FIFOTYPE, 0o5640, os.getuid(), os.getgid()
        tar.addfile(info)
    copy(out.getvalue(), tmp_path, "")
    assert (tmp_path / "pipe").stat().st_mode & 0o7777 == 0o5640
