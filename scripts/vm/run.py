"""Runs the runtime's tests in a virtual machine whose only control groups are version 2, without systemd and then with.

    python scripts/vm/run.py [--timeout SECONDS] [--kvm] [--systemd] [-- pytest arguments]

Needs qemu-system-x86, e2fsprogs, busybox-static and apt's package lists (scripts/system-packages vm). The machine is
emulated in software, so that it runs anywhere; --kvm uses the processor's help where /dev/kvm works. With --systemd or
arguments only the one machine is run. The exit status is pytest's, 125 when a machine did not come up or was not done
in time. All of it takes about eleven minutes on two processors, 1.5 GiB of memory and 1 GiB in build/vm, where the
kernel and the packages are kept.
"""

import argparse
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import guest

WORK = guest.REPOSITORY / "build" / "vm"
RESULT = b"rorqual-vm-result"
_RUNTIME = ("cgroup_v2", "lifecycle", "spec", "mounts", "security", "hostile", "races", "rootless")
# Not among them: other engines, which are not there, and command lines and fuzzing, which no kernel changes.
PLAIN = (
    *("-q", "-ra", "--timeout=300", "tests/integration/test_cgroup_v2.py"),
    *(f"tests/integration/runc/test_{name}.py" for name in _RUNTIME),
    *("tests/integration/runc/test_command.py::test_the_whole_life", "tests/unit/runc", "tests/unit/linux"),
)
# What this machine's own kernel may lack: the device mapper, and project quotas.
STORAGE = (
    *("-q", "-ra", "--timeout=900", "-k", "devicemapper or devmapper or project_quota"),
    *("tests/contracts/test_snapshotters.py", "tests/integration/test_storage_drivers.py"),
    *(f"tests/integration/containerd/test_{name}.py" for name in ("devmapper", "project_quota")),
)
_WITH_SYSTEMD = ("systemd", "criu", "labels")
SYSTEMD = (
    *("-q", "-ra", "--timeout=300", "tests/integration/test_systemd.py"),
    *(f"tests/integration/runc/test_{name}.py" for name in _WITH_SYSTEMD),
)
_MEMORY_MIB = 1024
_OUTPUT_MAX = 16 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--timeout", type=float, default=3600, help="seconds until the machine is given up (3600)")
    parser.add_argument("--systemd", action="store_true", help="boot systemd, and run the tests that need it")
    parser.add_argument("--storage", action="store_true", help="only the tests of storage drivers")
    parser.add_argument("--kvm", action="store_true", help="hardware virtualisation instead of emulation")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest instead of the runtime's tests")
    chosen = parser.parse_args()
    emulator = shutil.which("qemu-system-x86_64")
    if emulator is None:
        sys.exit("qemu-system-x86_64 is missing: see scripts/system-packages vm")
    start = time.monotonic()
    vmlinuz, modules = guest.kernel(WORK)
    disk = Disk(vmlinuz, guest.build_initrd(WORK, modules), guest.build_root(WORK, modules))
    say(f"image made in {time.monotonic() - start:.0f} s; {'kvm' if chosen.kvm else 'software emulation'}")
    machines = [(False, PLAIN), (True, SYSTEMD), (False, STORAGE)]
    if chosen.pytest or chosen.systemd:
        machines = [(chosen.systemd, chosen.pytest or SYSTEMD)]
    elif chosen.storage:
        machines = [(False, STORAGE)]
    statuses = []
    for systemd, arguments in machines:
        start = time.monotonic()
        statuses.append(watch(_command(emulator, disk, chosen.kvm, arguments, systemd), chosen.timeout))
        name = "with systemd" if systemd else "without systemd"
        say(f"virtual machine {name} ended with {statuses[-1]} after {time.monotonic() - start:.0f} s")
    return max(statuses)


@dataclass(frozen=True)
class Disk:
    """What a machine boots from; its own changes to the image are thrown away."""

    kernel: Path
    initrd: Path
    image: Path


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _command(emulator: str, disk: Disk, kvm: bool, pytest: Sequence[str], systemd: bool) -> list[str]:
    encoded = "%00".join(argument.replace(" ", "%20") for argument in pytest)
    # TSC and HPET aside, nothing that a headless machine could wait for
    line = f"console=ttyS0 quiet loglevel=3 panic=-1 cgroup_no_v1=all rorqual.pytest={encoded}"
    if systemd:
        line += " rorqual.systemd systemd.show_status=false systemd.unified_cgroup_hierarchy=1"
    return [
        emulator, "-nographic", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio",
        "-m", str(_MEMORY_MIB), "-smp", "2",
        *(["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]),
        "-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", line,
        "-drive", f"file={disk.image},format=raw,if=virtio,cache=unsafe,snapshot=on",
    ]  # fmt: skip


def watch(command: list[str], timeout_s: float) -> int:
    """Show the serial port until the result is there; the machine is ended in any case."""
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert machine.stdout is not None
    deadline = time.monotonic() + timeout_s
    seen, shown = bytearray(), 0
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(machine.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and shown < _OUTPUT_MAX:
                if not selector.select(left):
                    break
                data = os.read(machine.stdout.fileno(), 65536)
                if not data:
                    break
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                shown += len(data)
                seen += data
                del seen[:-65536]
        return _result(bytes(seen))
    finally:
        machine.kill()
        machine.wait()
        machine.stdout.close()


def _result(output: bytes) -> int:
    for line in output.splitlines():
        if line.startswith(RESULT):
            return int(line.split()[1])
    return 125


if __name__ == "__main__":
    sys.exit(main())
