"""Removing trees that were made to be hard to remove."""

import os
from pathlib import Path

import pytest

from rorqual.linux.removal import remove_tree


def nested(top: Path, depth: int) -> None:
    """`depth` directories, each in the one before: longer than any path may be."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def test_a_tree_deeper_than_stack_and_descriptors_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    nested(top, 3000)
    remove_tree(str(top))
    assert not top.exists()


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"")
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    for place in (top, top / "a", top / "a" / "b"):
        (place / "link").symlink_to(outside)
    os.mkfifo(top / "a" / "fifo")
    (top / "a" / "empty").mkdir()
    remove_tree(str(top))
    assert os.listdir(tmp_path) == ["outside"] and os.listdir(outside) == ["kept"]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove_tree(str(tmp_path / "none"))


def test_a_link_in_place_of_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError):
        remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "real").exists()
