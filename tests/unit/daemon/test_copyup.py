"""Filling a volume from an image: what the image's author made cheap must not cost the host more."""

import os
from pathlib import Path

import pytest

from rorqual.daemon import copyup


def copied(source: Path, target: Path) -> None:
    target.mkdir()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    try:
        copyup.copy_tree(*fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_hard_links_of_an_image_stay_one_file(tmp_path: Path) -> None:
    """Else a thousand names of a gigabyte, which is one in its layer, would be a terabyte in a volume."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d" / "e").mkdir(parents=True)
    (source / "a").write_bytes(b"data")
    for name in ("b", "d/c", "d/e/f"):
        (source / name).hardlink_to(source / "a")
    (source / "link").symlink_to("a")
    copied(source, target)
    assert len({(target / name).stat().st_ino for name in ("a", "b", "d/c", "d/e/f")}) == 1
    assert (target / "d/e/f").read_bytes() == b"data"
    assert os.readlink(target / "link") == "a"


def test_holes_of_an_image_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"middle")
        file.truncate(1 << 40)
    (source / "hole").touch()
    os.truncate(source / "hole", 1 << 40)
    copied(source, target)
    for name in ("sparse", "hole"):
        info = (target / name).stat()
        assert info.st_size == 1 << 40
        assert info.st_blocks * 512 < 1 << 20
    with (target / "sparse").open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(1 << 30)
        assert file.read(7) == b"middle\0"


def test_a_first_name_that_was_swapped_meanwhile_is_not_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume may be another container's too, which runs."""
    source, target, outside = tmp_path / "source", tmp_path / "target", tmp_path / "outside"
    outside.write_bytes(b"host")
    source.mkdir()
    (source / "a").write_bytes(b"data")
    (source / "b").hardlink_to(source / "a")
    utime = os.utime

    def swapped(path: int, ns: tuple[int, int]) -> None:
        utime(path, ns=ns)
        first = next(iter(target.iterdir()), None)
        if first is not None and outside.stat().st_nlink == 1:
            first.unlink()
            first.hardlink_to(outside)

    monkeypatch.setattr(os, "utime", swapped)
    copied(source, target)
    monkeypatch.undo()
    assert outside.stat().st_nlink == 2
    assert sorted(p.read_bytes() for p in target.iterdir()) == [b"data", b"host"]
