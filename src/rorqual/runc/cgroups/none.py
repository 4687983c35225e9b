"""The group of a container that has none: an ordinary user's, on a host that gave that user no group to make it in."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.oci.runtime import Resources
from rorqual.runc.cgroups.group import Group as Contract
from rorqual.runc.cgroups.settings import Writes
from rorqual.runc.cgroups.stats import Details, Stats


class Group:
    """Limits, pauses and figures are refused; whatever can do without a group works."""

    def create(self, resources: Resources) -> None:
        if resources != Resources(devices=resources.devices):
            raise _refusal("limit")

    def update(self, resources: Resources) -> None:
        raise _refusal("limit")

    def planned(self, resources: Resources) -> Writes:
        return []

    def directories(self) -> dict[str, str]:
        return {}

    def open_join_fds(self) -> list[int]:
        return []

    def open_clone_fd(self) -> int | None:
        return None

    def mount_sources(self) -> dict[str, str]:
        return {}

    def mount_options(self) -> dict[str, str]:
        return {}

    def unified(self) -> str:
        return ""

    def joinable(self, pid: int) -> Contract:
        return self

    def kill(self) -> bool:
        return False

    def pids(self) -> list[int]:
        return []

    def freeze(self) -> None:
        raise _refusal("pause")

    def thaw(self) -> None:
        raise _refusal("resume")

    def is_frozen(self) -> bool:
        return False

    def stats(self) -> Stats:
        raise _refusal("measure")

    def details(self) -> Details:
        raise _refusal("measure")

    def oom_watch(self) -> int | None:
        return None

    def oom_kills(self) -> int:
        return 0

    def destroy(self, *, end: bool) -> list[str]:
        return []


def _refusal(what: str) -> errdefs.Error:
    return errdefs.PermissionDenied(
        f"cannot {what} a container without control groups: no permission was granted for any when it was created"
    )
