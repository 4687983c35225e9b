"""Scheduler, I/O priority, CPU affinity and personality of the process about to be the user's."""

import ctypes
import os

from rorqual.errdefs import InvalidArgument
from rorqual.linux import libc, process
from rorqual.oci.runtime import Personality, Scheduler
from rorqual.runc.errors import Refusal, reason
from rorqual.runc.process.plan import ProcessPlan

_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


_sched_setattr = libc.system_call(
    libc.older_number("sched_setattr"), ctypes.c_int, ctypes.POINTER(_Attributes), ctypes.c_uint
)


_PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}


def personality(given: Personality | None) -> int | None:
    """linux.personality as personality(2) takes it. Raises: InvalidArgument."""
    if given is None:
        return None
    if given.flags:  # config-linux.md: "Currently no flag values are supported."
        raise InvalidArgument(f"invalid config: linux.personality.flags {given.flags[0]!r} is not known")
    try:
        return _PERSONALITIES[given.domain]
    except KeyError:
        raise InvalidArgument(f"invalid config: linux.personality.domain {given.domain!r} is not known") from None


def check(plan: ProcessPlan) -> None:
    """Raises: InvalidArgument of names that no kernel knows."""
    if plan.scheduler is not None:
        if plan.scheduler.policy not in _POLICIES:
            raise InvalidArgument(f"invalid config: process.scheduler.policy {plan.scheduler.policy!r} is not known")
        for flag in plan.scheduler.flags:
            if flag not in _FLAGS:
                raise InvalidArgument(f"invalid config: process.scheduler.flags {flag!r} is not known")
    if plan.io_priority is not None:
        if plan.io_priority.cls not in _IO_CLASSES:
            raise InvalidArgument(f"invalid config: process.ioPriority.class {plan.io_priority.cls!r} is not known")
        if not 0 <= plan.io_priority.priority <= 7:
            raise InvalidArgument("invalid config: process.ioPriority.priority must be between 0 and 7")


def apply(plan: ProcessPlan) -> None:
    """Raises: Refusal."""
    try:
        if plan.scheduler is not None:
            _set_scheduler(plan.scheduler)
        if plan.io_priority is not None:
            process.ioprio_set(_IO_CLASSES[plan.io_priority.cls], plan.io_priority.priority)
        if plan.personality is not None:
            process.personality(plan.personality)
    except OSError as e:
        raise Refusal(f"unable to set scheduling: {reason(e)}") from e


def set_cpus(cpus: frozenset[int], member: str) -> None:
    """Nothing when there are none. Raises: Refusal, as of CPUs that the host lacks."""
    try:
        if cpus:
            os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as e:
        text = reason(e) if isinstance(e, OSError) else str(e)
        raise Refusal(f"can't set process.execCPUAffinity.{member}: {text}") from e


def _set_scheduler(scheduler: Scheduler) -> None:
    flags = 0
    for name in scheduler.flags:
        flags |= _FLAGS[name]
    attributes = _Attributes(
        ctypes.sizeof(_Attributes),
        _POLICIES[scheduler.policy],
        flags,
        scheduler.nice,
        scheduler.priority,
        scheduler.runtime,
        scheduler.deadline,
        scheduler.period,
    )
    libc.check(_sched_setattr(0, attributes, 0))
