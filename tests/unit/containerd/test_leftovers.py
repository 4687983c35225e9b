"""What a container whose shim is gone has left: where its control group is."""

from pathlib import Path

import pytest

from rorqual.containerd.runtime import leftovers


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("system.slice:docker:1", "system.slice/docker-1.scope"),
        ("a-b.slice:p:n", "a.slice/a-b.slice/p-n.scope"),
        ("-.slice:p:n", "p-n.scope"),
        (":p:n", "system.slice/p-n.scope"),
    ],
)
def test_systemds_units_are_found_by_their_slices(
    path: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (directory := tmp_path / expected).mkdir(parents=True)
    monkeypatch.setattr(leftovers, "_hierarchies", lambda: iter([str(tmp_path)]))
    assert list(leftovers._cgroups(path)) == [str(directory)]


@pytest.mark.parametrize("path", ["", "/", "//", "/..", "a/..", "."])
def test_the_hosts_root_group_is_nobodys(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that runs on the machine is in it or below, and would be ended."""
    monkeypatch.setattr(leftovers, "_hierarchies", lambda: iter([str(tmp_path)]))
    assert list(leftovers._cgroups(path)) == []
