"""The overlayfs driver's mounts: what the kernel is asked for."""

from pathlib import Path

from rorqual.containerd.metadata.records import Kind
from rorqual.containerd.snapshotters.contract import Mount
from rorqual.containerd.snapshotters.overlayfs import VOLATILE_LABEL, OverlayDriver


def driver() -> OverlayDriver:
    made = OverlayDriver("/r")
    made._base_options = ()
    return made


def test_a_base_is_a_bind_mount() -> None:
    assert driver().mounts(1, [], Kind.ACTIVE, {}) == [Mount("bind", "/r/1/fs", ("rw", "rbind"))]


def test_a_view_of_one_layer_is_that_layer_read_only() -> None:
    assert driver().mounts(2, [1], Kind.VIEW, {}) == [Mount("bind", "/r/1/fs", ("ro", "rbind"))]


def test_a_view_of_two_has_no_upper() -> None:
    assert driver().mounts(3, [2, 1], Kind.VIEW, {}) == [Mount("overlay", "overlay", ("lowerdir=/r/2/fs:/r/1/fs",))]


def test_an_active_has_all() -> None:
    options = ("workdir=/r/3/work", "upperdir=/r/3/fs", "lowerdir=/r/2/fs:/r/1/fs")
    assert driver().mounts(3, [2, 1], Kind.ACTIVE, {}) == [Mount("overlay", "overlay", options)]


def test_volatile_by_label_and_the_kernels_mark_is_taken_away(tmp_path: Path) -> None:
    made = OverlayDriver(str(tmp_path))
    (tmp_path / "3/work/work/incompat/volatile").mkdir(parents=True)
    (mount,) = made.mounts(3, [1], Kind.ACTIVE, {VOLATILE_LABEL: "true"})
    assert "volatile" in mount.options
    assert not (tmp_path / "3/work/work/incompat").exists()
