"""blkio (v1) and io (v2): weights and throttles of block devices. Source: runtime-spec config-linux.md, Block IO."""

from rorqual.oci.runtime import BlockIO
from rorqual.runc.cgroups.settings import Write, Writes

_V1 = (
    ("throttle_read_bps_device", "blkio.throttle.read_bps_device"),
    ("throttle_write_bps_device", "blkio.throttle.write_bps_device"),
    ("throttle_read_iops_device", "blkio.throttle.read_iops_device"),
    ("throttle_write_iops_device", "blkio.throttle.write_iops_device"),
)
_V2 = (
    ("throttle_read_bps_device", "rbps"),
    ("throttle_write_bps_device", "wbps"),
    ("throttle_read_iops_device", "riops"),
    ("throttle_write_iops_device", "wiops"),
)


def v1(io: BlockIO, bfq: bool) -> Writes:
    """`bfq`: the kernel offers weights only through the BFQ scheduler's files."""
    prefix = "blkio.bfq." if bfq else "blkio."
    writes: Writes = []
    if io.weight:
        writes.append(Write(prefix + "weight", str(io.weight)))
    if io.leaf_weight:
        writes.append(Write("blkio.leaf_weight", str(io.leaf_weight)))
    for device in io.weight_device:
        name = f"{device.major}:{device.minor}"
        if device.weight:
            writes.append(Write(prefix + "weight_device", f"{name} {device.weight}"))
        if device.leaf_weight:
            writes.append(Write("blkio.leaf_weight_device", f"{name} {device.leaf_weight}"))
    for attribute, file in _V1:
        for throttle in getattr(io, attribute):
            writes.append(Write(file, f"{throttle.major}:{throttle.minor} {throttle.rate}"))
    return writes


def v2(io: BlockIO, bfq: bool) -> Writes:
    writes: Writes = []
    if io.weight:
        if bfq:
            writes.append(Write("io.bfq.weight", str(io.weight)))
        else:
            writes.append(Write("io.weight", str(weight(io.weight))))
    for device in io.weight_device:
        if device.weight:
            writes.append(Write("io.bfq.weight", f"{device.major}:{device.minor} {device.weight}"))
    for attribute, key in _V2:
        for throttle in getattr(io, attribute):
            rate = throttle.rate or "max"
            writes.append(Write("io.max", f"{throttle.major}:{throttle.minor} {key}={rate}"))
    return writes


def weight(v1_weight: int) -> int:
    """io.weight (1-10000) for a blkio weight (10-1000), linearly."""
    return 1 + (v1_weight - 10) * 9999 // 990
