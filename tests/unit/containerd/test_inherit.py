"""Directories that a layer has only by implication take their parents' attributes at the commit."""

import os
import stat
from pathlib import Path

from rorqual.containerd.snapshotters.inherit import inherit_directories


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_nearest_parent_that_has_it_wins(tmp_path: Path) -> None:
    layer, near, far = (tmp_path / name for name in ("layer", "near", "far"))
    for root, names in ((layer, ("tmp/x", "opt")), (near, ("opt",)), (far, ("tmp/x", "opt"))):
        for name in names:
            (root / name).mkdir(parents=True)
    os.chmod(far / "tmp", 0o1777)
    os.chmod(far / "opt", 0o700)
    os.chmod(near / "opt", 0o711)
    inherit_directories(str(layer), [str(near), str(far)], ["tmp", "tmp/x", "opt"])
    assert mode(layer / "tmp") == 0o1777
    assert mode(layer / "opt") == 0o711


def test_what_hides_the_directory_below_ends_the_search(tmp_path: Path) -> None:
    layer, near, far = (tmp_path / name for name in ("layer", "near", "far"))
    for root in (layer, far):
        (root / "opt").mkdir(parents=True)
    near.mkdir()
    (near / "opt").write_text("a file")
    os.chmod(far / "opt", 0o700)
    inherit_directories(str(layer), [str(near), str(far)], ["opt"])
    assert mode(layer / "opt") == 0o755


def test_links_are_not_followed_out_of_the_layer(tmp_path: Path) -> None:
    outside, layer, parent = (tmp_path / name for name in ("outside", "layer", "parent"))
    for directory in (outside, layer, parent / "x"):
        directory.mkdir(parents=True)
    os.chmod(parent / "x", 0o777)
    before = mode(outside)
    (layer / "x").symlink_to(outside)
    try:
        inherit_directories(str(layer), [str(parent)], ["x"])
    except OSError:
        pass
    assert mode(outside) == before
    (parent / "y").symlink_to(outside)
    (layer / "y").mkdir()
    os.chmod(outside, 0o707)
    inherit_directories(str(layer), [str(parent)], ["y"])
    assert mode(layer / "y") == 0o755
