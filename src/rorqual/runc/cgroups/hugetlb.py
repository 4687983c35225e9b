"""hugetlb: bytes of huge pages by page size ("2MB"), reservations too where the kernel counts them."""

from rorqual.oci.runtime import HugepageLimit
from rorqual.runc.cgroups.settings import Write, Writes


def v1(limits: tuple[HugepageLimit, ...]) -> Writes:
    return _writes(limits, "limit_in_bytes")


def v2(limits: tuple[HugepageLimit, ...]) -> Writes:
    return _writes(limits, "max")


def _writes(limits: tuple[HugepageLimit, ...], suffix: str) -> Writes:
    writes: Writes = []
    for limit in limits:
        writes.append(Write(f"hugetlb.{limit.page_size}.{suffix}", str(limit.limit)))
        writes.append(Write(f"hugetlb.{limit.page_size}.rsvd.{suffix}", str(limit.limit), optional=True))
    return writes
