"""systemd's manager: the calls that make, change and end a unit. Each waits until systemd has done it.

Source: org.freedesktop.systemd1(5), interface org.freedesktop.systemd1.Manager.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from rorqual import errdefs
from rorqual.runc.systemd import bus
from rorqual.runc.systemd.message import Variant
from rorqual.runc.systemd.properties import Properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

NAME, PATH, MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_JOB_TIMEOUT_S = 30.0
_BOOTED = "/run/systemd/system"  # sd_booted(3)


class Manager:
    """A connection to the system's manager, or with `of_user` to the user's own. For one `with`."""

    def __init__(self, *, of_user: bool) -> None:
        """Raises: InvalidArgument where systemd does not run, Unavailable when it does not answer."""
        if not os.path.isdir(_BOOTED):
            raise errdefs.InvalidArgument("systemd not running on this host, cannot use systemd cgroups manager")
        self._bus = bus.open_user() if of_user else bus.open_system()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bus.__exit__(*exception)

    def _call(self, member: str, signature: str = "", *body: Any) -> tuple[Any, ...]:
        return self._bus.call(NAME, PATH, MANAGER, member, signature, *body)

    def _property(self, name: str) -> str:
        (value,) = self._bus.call(NAME, PATH, _PROPERTIES, "Get", "ss", MANAGER, name)
        return str(value.value)

    def version(self) -> int:
        """252 of `252.38-1~deb12u1`; 0 when it tells nothing of the kind."""
        digits = self._property("Version").lstrip("v")
        return int(digits[: len(digits) - len(digits.lstrip("0123456789"))] or 0)

    def group(self) -> str:
        """The manager's own group: its units are below it ("" for the system's)."""
        return self._property("ControlGroup").rstrip("/")

    def start(self, unit: str, properties: Properties) -> None:
        """Make the transient unit. Raises: AlreadyExists, Unavailable with systemd's reason."""
        self._await_jobs()
        try:
            self._start(unit, properties)
        except bus.Failure as e:
            if e.name != f"{NAME}.UnitExists":
                raise errdefs.Unavailable(f'unable to start unit "{unit}": {e}') from e
            # One that failed stays until it is reset; one that runs is somebody's.
            self.reset_failed(unit)
            try:
                self._start(unit, properties)
            except bus.Failure as again:
                raise errdefs.AlreadyExists(f'unable to start unit "{unit}": {again}') from again

    def _start(self, unit: str, properties: Properties) -> None:
        (job,) = self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", properties, [])
        result = self._result(job, lambda: False)
        if result != "done":
            self.reset_failed(unit)
            raise errdefs.Unavailable(f"error creating systemd unit `{unit}`: got `{result}`")

    def stop(self, unit: str) -> None:
        """Nothing when there is no such unit: one without processes goes by itself. Raises: Unavailable."""
        self._await_jobs()
        try:
            (job,) = self._call("StopUnit", "ss", unit, "replace")
            self._result(job, lambda: not self._exists(unit))
        except bus.Failure as e:
            if e.name != f"{NAME}.NoSuchUnit":
                raise errdefs.Unavailable(f'unable to stop unit "{unit}": {e}') from e
        self.reset_failed(unit)

    def reset_failed(self, unit: str) -> None:
        """Let systemd forget a unit that failed: its name can be used again."""
        with suppress(bus.Failure):  # it had not failed, or is gone
            self._call("ResetFailedUnit", "s", unit)

    def set_properties(self, unit: str, properties: Properties) -> None:
        """Until the next boot, which the unit does not live to see. Raises: InvalidArgument with systemd's reason."""
        try:
            self._call("SetUnitProperties", "sba(sv)", unit, True, properties)
        except bus.Failure as e:
            raise errdefs.InvalidArgument(f'unable to set properties of unit "{unit}": {e}') from e

    def _await_jobs(self) -> None:
        self._bus.subscribe(MANAGER, "JobRemoved")
        with suppress(bus.Failure):  # on its own socket the manager tells everybody
            self._call("Subscribe")

    def _result(self, job: str, is_over: Callable[[], bool]) -> str:
        """How the job ended; `is_over` is asked now and then, for a job that went together with its unit.

        Raises: Unavailable.
        """
        deadline = time.monotonic() + _JOB_TIMEOUT_S
        while time.monotonic() < deadline:
            ended = self._bus.signal(MANAGER, "JobRemoved", lambda body: len(body) > 3 and body[1] == job, 1.0)
            if ended is not None:
                return str(ended[3])
            if is_over():
                return "done"
        raise errdefs.Unavailable(f"systemd did not finish its job {job} in time")

    def _exists(self, unit: str) -> bool:
        """Whether the unit is there and not at its end already."""
        try:
            (path,) = self._call("GetUnit", "s", unit)
            (state,) = self._bus.call(NAME, path, _PROPERTIES, "Get", "ss", f"{NAME}.Unit", "ActiveState")
        except bus.Failure:
            return False
        return state.value not in ("inactive", "failed")


def transient(unit: str, slice_name: str, pid: int, description: str, *, unified: bool) -> Properties:
    """What each container's unit begins with: its slice, its first process, and every controller counting."""
    place: Properties = [("Wants", Variant("as", [slice_name]))]
    if not unit.endswith(".slice"):
        # Delegated: the manager leaves alone what is in the group and below it.
        place = [("Slice", Variant("s", slice_name)), ("Delegate", Variant("b", True)), ("PIDs", Variant("au", [pid]))]
    kinds = ("CPUAccounting", "IOAccounting" if unified else "BlockIOAccounting", "MemoryAccounting", "TasksAccounting")
    return [
        ("Description", Variant("s", description)),
        *place,
        *((kind, Variant("b", True)) for kind in kinds),
        ("DefaultDependencies", Variant("b", False)),
    ]
