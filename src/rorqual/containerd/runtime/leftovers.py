"""What a killed shim leaves: processes and cgroups of its container, the rootfs' mount, the runtime's state.

Synchronous: call it in a thread. The cgroups are found by the spec's cgroupsPath below every hierarchy.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from rorqual.containerd.runtime.bundle import Bundle

log = logging.getLogger(__name__)

_KILL_ROUNDS = 100
_KILL_PAUSE_S = 0.01


def clean_up(bundle: Bundle, runtime_state: str) -> None:
    """End what is left of a container whose shim is gone. Every step is tried; failures are logged."""
    groups = list(_cgroups(bundle.cgroups_path()))
    _kill(groups)
    for group in groups:
        _remove_tree(group)
    bundle.unmount()
    shutil.rmtree(runtime_state, ignore_errors=True)


def _cgroups(path: str) -> Iterator[str]:
    """The container's directory in each hierarchy that has one."""
    if path.count(":") == 2:
        path = _unit_path(*path.split(":"))
    clean = os.path.normpath("/" + path.lstrip("/"))  # POSIX keeps two slashes apart from one
    if clean == "/":
        return  # the host's own root group is nobody's container
    for mountpoint in _hierarchies():
        directory = mountpoint + clean
        if os.path.isdir(directory):
            yield directory


def _unit_path(slice_name: str, prefix: str, name: str) -> str:
    """Of systemd's slice:prefix:name: each dash of the slice's name is a level. Source: systemd.slice(5)."""
    levels = (slice_name or "system.slice").removesuffix(".slice").split("-")
    above = [f"{'-'.join(levels[: depth + 1])}.slice" for depth in range(len(levels)) if any(levels)]
    return "/".join([*above, f"{prefix}-{name}.scope"])


def _hierarchies() -> Iterator[str]:
    """Mount points of every v1 hierarchy and of v2. Source: proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split(" ")
            if fields[fields.index("-") + 1] in ("cgroup", "cgroup2") and fields[3] == "/":
                yield fields[4]


def _kill(groups: list[str]) -> None:
    """SIGKILL every process in the groups until none is left; a frozen one is thawed, or it could not die."""
    for _round in range(_KILL_ROUNDS):
        pids = {pid for group in groups for pid in _pids(group)}
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for group in groups:
            _write(f"{group}/freezer.state", "THAWED")
            _write(f"{group}/cgroup.freeze", "0")
        time.sleep(_KILL_PAUSE_S)
    log.warning("processes do not end in %s", groups)


def _pids(group: str) -> Iterator[int]:
    for directory, _names, _files in os.walk(group):
        with suppress(OSError), open(f"{directory}/cgroup.procs") as file:
            yield from (int(line) for line in file)


def _remove_tree(group: str) -> None:
    for directory, _names, _files in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as e:
            log.warning("cgroup %s: %s", directory, e)


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return  # the other version's file
    try:
        os.write(fd, text.encode())
    except OSError as e:
        log.warning("%s: %s", path, e)
    finally:
        os.close(fd)
