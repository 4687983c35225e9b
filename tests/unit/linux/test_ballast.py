"""Room set aside: taken on when there is plenty, dropped when there is none."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from rorqual.linux.ballast import Ballast


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The disk's free bytes, for the test to set."""
    disk = SimpleNamespace(f_bavail=1 << 40, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)
    return disk


def test_it_comes_and_goes_with_the_room_on_the_disk(tmp_path: Path, free: SimpleNamespace) -> None:
    file = tmp_path / "x.db.ballast"
    ballast = Ballast(str(tmp_path / "x.db"))
    ballast.trim()
    assert file.stat().st_blocks * 512 >= 1 << 20
    free.f_bavail = 1000
    ballast.trim()
    assert not file.exists()
    free.f_bavail = 2 << 20  # not enough to take a part of it away again
    ballast.trim()
    assert not file.exists()
    free.f_bavail = 1 << 40
    ballast.trim()
    assert file.exists()


def test_one_of_the_last_run_is_dropped_too(tmp_path: Path, free: SimpleNamespace) -> None:
    Ballast(str(tmp_path / "x.db")).trim()
    free.f_bavail = 0
    Ballast(str(tmp_path / "x.db")).trim()
    assert os.listdir(tmp_path) == []
