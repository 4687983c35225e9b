"""pids: how many tasks. Zero or less is unlimited (runtime-spec config-linux.md, PIDs)."""

from rorqual.oci.runtime import Pids
from rorqual.runc.cgroups.settings import Write, Writes


def writes(pids: Pids) -> Writes:
    """The same file on v1 and v2."""
    if pids.limit is None or pids.limit == 0:
        return []
    return [Write("pids.max", str(pids.limit) if pids.limit > 0 else "max")]
