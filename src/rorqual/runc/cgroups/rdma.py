"""rdma: handles and objects by device; the same file on v1 and v2."""

from rorqual.oci.runtime import Rdma
from rorqual.runc.cgroups.settings import Write, Writes


def writes(devices: dict[str, Rdma]) -> Writes:
    chosen: Writes = []
    for name, limits in devices.items():
        parts = [name]
        if limits.hca_handles is not None:
            parts.append(f"hca_handle={limits.hca_handles}")
        if limits.hca_objects is not None:
            parts.append(f"hca_object={limits.hca_objects}")
        chosen.append(Write("rdma.max", " ".join(parts)))
    return chosen
