"""How large a volume is, whatever its containers make of it."""

import os
from pathlib import Path

import pytest
from support.deep import descend

from rorqual.daemon.services.volumes import size_of
from rorqual.linux import removal


def test_a_deep_tree_is_measured_too(tmp_path: Path) -> None:
    """A container makes thousands of nested directories with a loop; recursion would end `system df` and prune."""
    top = tmp_path / "volume"
    top.mkdir()
    fd = descend(top, 3000)
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, b"x" * 100_000)
    os.fsync(file)
    os.close(file)
    os.close(fd)
    try:
        assert 100_000 <= size_of(str(top)) < 200_000
    finally:
        removal.remove_tree(str(top))


def test_a_directory_swapped_for_a_link_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside, top = tmp_path / "outside", tmp_path / "volume"
    for directory in (outside, top / "d"):
        directory.mkdir(parents=True)
    with (outside / "file").open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        os.fsync(file.fileno())
    opened = os.open

    def swapped(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if os.fsencode(path) == b"d":
            (top / "d").rmdir()
            (top / "d").symlink_to(outside)
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapped)
    assert size_of(str(top)) == 0
    assert (top / "d").is_symlink()


def test_what_is_not_there_has_no_size(tmp_path: Path) -> None:
    assert size_of("") == size_of(str(tmp_path / "none")) == 0
