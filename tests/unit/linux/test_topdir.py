"""The attribute that spreads directories: set where the file system has it, no error elsewhere."""

import subprocess
from pathlib import Path

import pytest

from rorqual.linux import topdir


def test_a_directory_is_marked_once_and_keeps_its_other_attributes(tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True).stdout
    if not kind.startswith("ext"):
        pytest.skip(f"the temporary directory is on {kind.strip()}")
    subprocess.run(["chattr", "+A", tmp_path], check=True)  # no access times
    assert topdir.spread(str(tmp_path)) and topdir.spread(str(tmp_path))
    shown = subprocess.run(["lsattr", "-d", tmp_path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert "T" in shown and "A" in shown


def test_a_file_system_without_it_is_left_alone() -> None:
    assert not topdir.spread("/proc/self")


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        topdir.spread(str(tmp_path / "none"))
