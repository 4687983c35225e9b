"""memory: limit, reservation, swap, swappiness, OOM killer. Bytes; -1 is unlimited.

Source: runtime-spec config-linux.md, Memory; Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from rorqual.errdefs import InvalidArgument
from rorqual.oci.runtime import Memory
from rorqual.runc.cgroups.settings import Write, Writes

_LIMIT = "memory.limit_in_bytes"
_MEMSW = "memory.memsw.limit_in_bytes"
_UNLIMITED = 2**63 - 4096


def v1(memory: Memory, current_memsw: int | None = None) -> Writes:
    """`current_memsw`: the group's present limit of memory plus swap; None where swap isn't accounted."""
    writes = _limits_v1(memory, current_memsw)
    if memory.reservation is not None and memory.reservation != 0:
        writes.append(Write("memory.soft_limit_in_bytes", str(memory.reservation)))
    if memory.kernel_tcp:
        writes.append(Write("memory.kmem.tcp.limit_in_bytes", str(memory.kernel_tcp), optional=True))
    if memory.disable_oom_killer:
        writes.append(Write("memory.oom_control", "1"))
    if memory.swappiness is not None:
        if memory.swappiness > 100:
            raise InvalidArgument(f"invalid memory swappiness value: {memory.swappiness} (valid range is 0-100)")
        writes.append(Write("memory.swappiness", str(memory.swappiness)))
    return writes


def _limits_v1(memory: Memory, current_memsw: int | None) -> Writes:
    """The kernel keeps limit <= memsw at every moment, so which is written first depends on where they come from."""
    limit, swap = memory.limit or 0, memory.swap or 0
    if limit == -1 and not swap:
        swap = -1  # an unlimited memory makes the old sum meaningless
    writes: Writes = []
    if limit:
        writes.append(Write(_LIMIT, str(limit)))
    if swap:
        if swap > 0 and limit > 0 and swap < limit:
            raise InvalidArgument(f"memory+swap limit {swap} should be larger than the memory limit {limit}")
        memsw = Write(_MEMSW, str(swap), optional=current_memsw is None)
        present = _UNLIMITED if current_memsw is None else current_memsw
        grows = swap == -1 or swap > present
        writes.insert(0 if grows else len(writes), memsw)
    return writes


def check_usage(limit: int | None, usage: int | None) -> None:
    """checkBeforeUpdate: rather refuse than have the kernel kill. Raises: InvalidArgument."""
    if limit is not None and limit > 0 and usage is not None and usage > limit:
        raise InvalidArgument(f"unable to set memory limit to {limit}: the container uses {usage} bytes now")


def v2(memory: Memory, current_limit: int | None = None) -> Writes:
    """`current_limit`: the group's present one, for a change of swap alone; None when there is none."""
    writes: Writes = []
    if memory.disable_oom_killer:
        raise InvalidArgument("invalid config: linux.resources.memory.disableOOMKiller is not available on cgroup v2")
    if memory.swap is not None or memory.limit == -1:
        swap = _swap_v2(memory, memory.limit or current_limit)
        if swap is not None:
            writes.append(Write("memory.swap.max", swap, optional=swap in ("max", "0")))
    if memory.limit:
        writes.append(Write("memory.max", _or_max(memory.limit)))
    if memory.reservation:
        writes.append(Write("memory.low", _or_max(memory.reservation)))
    return writes


def _swap_v2(memory: Memory, limit: int | None) -> str | None:
    """v2 limits swap alone. Source: runtime-spec's `swap` is memory plus swap."""
    if memory.swap == -1 or (memory.limit == -1 and not memory.swap):
        return "max"
    if not memory.swap:
        return None
    if limit is None or limit <= 0:
        raise InvalidArgument("unable to set swap limit without memory limit")
    if memory.swap < limit:
        raise InvalidArgument(f"memory+swap limit {memory.swap} should be larger than the memory limit {limit}")
    return str(memory.swap - limit)


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)
