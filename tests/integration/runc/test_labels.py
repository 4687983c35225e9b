"""AppArmor and SELinux: what is written for them, and what AppArmor's kernel makes of it (`make test-vm`)."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.oci.runtime import Mount, Process
from rorqual.runc.errors import StartError
from rorqual.runc.process import labels

from .conftest import Bundle, wait

pytestmark = pytest.mark.root

LABEL = "system_u:system_r:container_t:s0:c1,c2"
FILES = "system_u:object_r:container_file_t:s0:c1,c2"


@pytest.fixture
def attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel with both modules, as far as the files go: the container's child inherits where they are."""
    made = tmp_path / "attr"
    (made / "apparmor").mkdir(parents=True)
    for name in ("exec", "keycreate", "apparmor/exec"):
        (made / name).touch()
    (tmp_path / "enabled").write_text("Y\n")
    monkeypatch.setattr(labels, "_ATTRIBUTES", str(made))
    monkeypatch.setattr(labels, "_SELINUX", str(tmp_path / "enabled"))
    monkeypatch.setattr(labels, "_APPARMOR", str(tmp_path / "enabled"))
    return made


def test_init_and_execs_write_their_labels(bundle: Bundle, attributes: Path) -> None:
    process = {"selinux_label": LABEL, "apparmor_profile": "tight"}
    made = bundle.create(bundle.spec("sleep", "100", process=process))
    made.start()
    assert (attributes / "exec").read_text() == LABEL
    assert (attributes / "keycreate").read_text() == LABEL
    assert (attributes / "apparmor/exec").read_text() == "exec tight"
    other = Process(args=("true",), env=("PATH=/bin",), selinux_label="other", apparmor_profile="loose")
    pid, _ = made.exec(other)
    assert wait(pid) == 0
    assert (attributes / "exec").read_text().startswith("other")
    assert (attributes / "apparmor/exec").read_text() == "exec loose"


def test_before_linux_5_1_apparmor_has_the_only_file(bundle: Bundle, attributes: Path) -> None:
    shutil.rmtree(attributes / "apparmor")
    assert bundle.run(bundle.spec("true", process={"apparmor_profile": "tight"}))[0] == 0
    assert (attributes / "exec").read_text() == "exec tight"


def test_a_label_that_cannot_be_written_ends_the_create(bundle: Bundle, attributes: Path) -> None:
    (attributes / "exec").unlink()
    (attributes / "exec").symlink_to("/dev/full")
    with pytest.raises(StartError, match=f"selinux failed to apply profile {LABEL}: no space left"):
        bundle.create(bundle.spec("true", process={"selinux_label": LABEL}))
    shutil.rmtree(attributes)
    with pytest.raises(StartError, match="selinux failed to apply profile: procfs has no file for it"):
        bundle.create(bundle.spec("true", process={"selinux_label": LABEL}))


@pytest.mark.parametrize("copy_up", [(), ("tmpcopyup",)])
def test_the_mount_label_is_an_option_of_fresh_file_systems(
    bundle: Bundle, attributes: Path, copy_up: tuple[str, ...]
) -> None:
    """Which a kernel without SELinux refuses: binds and proc, that get none, are mounted all the same."""
    plain = bundle.spec("true", linux={"mount_label": FILES, "masked_paths": ()})
    plain = replace(plain, mounts=tuple(m for m in plain.mounts if m.type in ("proc", "sysfs")))
    assert bundle.run(plain)[0] == 0
    with pytest.raises(StartError, match=r'error mounting "tmpfs" to rootfs at "/tmp"'):
        bundle.run(replace(plain, mounts=(*plain.mounts, Mount("/tmp", "tmpfs", "tmpfs", copy_up))))
    masked = replace(plain, linux=replace(plain.linux, masked_paths=("/proc/scsi", "/root")))  # type: ignore[type-var]
    with pytest.raises(StartError, match="context"):
        bundle.run(masked)


def test_a_kernel_without_selinux_refuses_labels(bundle: Bundle) -> None:
    if labels.selinux_is_enabled():
        pytest.skip("this kernel runs SELinux")
    for spec in (
        bundle.spec("true", process={"selinux_label": LABEL}),
        bundle.spec("true", linux={"mount_label": FILES}),
    ):
        with pytest.raises(errdefs.InvalidArgument, match="selinux is disabled or not supported"):
            bundle.create(spec)


PROFILE = """
profile rqtest-tight flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  deny /etc/passwd r,
}
"""


@pytest.fixture
def apparmor(tmp_path: Path) -> Iterator[str]:
    """The name of a profile that the kernel has loaded."""
    if not labels.apparmor_is_enabled() or shutil.which("apparmor_parser") is None:
        pytest.skip("needs a kernel that runs AppArmor, and apparmor_parser")
    path = tmp_path / "profile"
    path.write_text(PROFILE)
    line = ["apparmor_parser", "--skip-cache", str(path)]
    subprocess.run([*line[:1], "--replace", *line[1:]], check=True)
    yield "rqtest-tight"
    subprocess.run([*line[:1], "--remove", *line[1:]], check=True)


def test_a_loaded_profile_confines_init_and_execs(bundle: Bundle, apparmor: str) -> None:
    script = "cat /proc/self/attr/current; cat /etc/passwd >/dev/null 2>&1 && echo read"
    status, out, _ = bundle.run(bundle.spec("sh", "-c", script, process={"apparmor_profile": apparmor}))
    assert (status, out) == (1, f"{apparmor} (enforce)\n")
    made = bundle.create(bundle.spec("sleep", "100"))
    made.start()
    line = ("sh", "-c", "! cat /etc/passwd")
    for profile, status in ((apparmor, 0), ("unconfined", 1)):
        pid, _ = made.exec(Process(args=line, env=("PATH=/bin",), apparmor_profile=profile))
        assert wait(pid) == status
    with pytest.raises(StartError, match="apparmor failed to apply profile rqtest-missing: no such file"):
        made.exec(Process(args=line, env=("PATH=/bin",), apparmor_profile="rqtest-missing"))
