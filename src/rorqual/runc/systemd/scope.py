"""A container's unit: made before the container's first process is there, changed with its limits, ended with it.

A scope cannot be without a process, and the container's first is cloned into a group that exists (rorqual.runc.process.
parent). So a child of this process holds the scope open until init is in it; it does nothing but wait for the end of a
pipe, and so ends with this process at the latest.
"""

from __future__ import annotations

import os
from contextlib import suppress

from rorqual.linux import cgroups, process
from rorqual.oci.runtime import DeviceRule
from rorqual.runc.cgroups.settings import Writes
from rorqual.runc.systemd import properties
from rorqual.runc.systemd.manager import Manager, transient
from rorqual.runc.systemd.names import Unit
from rorqual.runc.systemd.properties import Properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Scope:
    """`of_user`: the unit is the user's manager's, not the system's."""

    def __init__(self, unit: Unit, *, of_user: bool) -> None:
        self.unit = unit
        self.of_user = of_user
        self.is_ours = False  # a unit of that name that somebody else made is not for this process to end
        self._holder: _Holder | None = None

    def group(self) -> str:
        """The absolute path of its group in each hierarchy, as the manager will make it. Raises: Unavailable."""
        if not self.of_user:
            return self.unit.path
        with Manager(of_user=True) as manager:
            return manager.group() + self.unit.path

    def start(self, writes: Writes, rules: tuple[DeviceRule, ...], container_id: str, wanted: Properties) -> None:
        """`wanted`: properties that the container's annotations ask for. Raises: AlreadyExists, Unavailable."""
        unified = cgroups.is_unified()
        holder = _Holder()
        try:
            given = transient(self.unit.name, self.unit.slice, holder.pid, f"container {container_id}", unified=unified)
            if rules and not unified:
                given += properties.devices(rules, device_names())
            with Manager(of_user=self.of_user) as manager:
                given += properties.limits(writes, manager.version())
                manager.start(self.unit.name, _merged(given, wanted))
        except BaseException:
            holder.end()
            raise
        self._holder = holder
        self.is_ours = True

    def settled(self) -> None:
        """The container's first process is in the group now."""
        if self._holder is not None:
            self._holder.end()
            self._holder = None

    def update(self, writes: Writes) -> None:
        """Raises: InvalidArgument, Unavailable."""
        with Manager(of_user=self.of_user) as manager:
            changed = properties.limits(writes, manager.version())
            if changed:
                manager.set_properties(self.unit.name, changed)

    def stop(self) -> None:
        """A second call does nothing. Raises: Unavailable."""
        self.settled()
        with Manager(of_user=self.of_user) as manager:
            manager.stop(self.unit.name)


def _merged(given: Properties, wanted: Properties) -> Properties:
    """A property that is wanted takes the place of the one given: systemd adds up what it gets twice."""
    names = {name for name, _ in wanted}
    return [*(entry for entry in given if entry[0] not in names), *wanted]


def device_names() -> dict[tuple[str, int], str]:
    """("c" or "b", major) -> the name that /proc/devices has for it."""
    names: dict[tuple[str, int], str] = {}
    kind = "c"
    with open("/proc/devices", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("Block"):
                kind = "b"
            number, _, name = line.strip().partition(" ")
            if number.isdigit():
                names.setdefault((kind, int(number)), name)
    return names


class _Holder:
    """A child that waits for `end`."""

    def __init__(self) -> None:
        read, self._write = os.pipe2(os.O_CLOEXEC)
        self.pid = process.clone(0)
        if self.pid == 0:
            _wait(read)
        os.close(read)

    def end(self) -> None:
        os.close(self._write)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _wait(read: int) -> NoReturn:
    try:
        process.close_from(0, frozenset({read}))
        os.read(read, 1)
    finally:
        os._exit(0)
