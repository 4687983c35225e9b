"""cpuset: processors and memory nodes. A v1 group can hold no process before both are set."""

from rorqual.oci.runtime import CPU
from rorqual.runc.cgroups.settings import Write, Writes


def writes(cpu: CPU) -> Writes:
    """The same files on v1 and v2."""
    chosen: Writes = []
    if cpu.cpus:
        chosen.append(Write("cpuset.cpus", cpu.cpus))
    if cpu.mems:
        chosen.append(Write("cpuset.mems", cpu.mems))
    return chosen
