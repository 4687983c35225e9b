"""What must happen to a service's containers, from what is wanted and what there is. Nothing is done here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rorqual.compose import labels
from rorqual.compose.kinds import JSON
from rorqual.compose.observe import Seen
from rorqual.compose.project import Project, config_hash

Policy = Literal["diverged", "force", "never"]


@dataclass(frozen=True, slots=True)
class Create:
    """One that is missing."""

    number: int


@dataclass(frozen=True, slots=True)
class Recreate:
    """One that was made for something else."""

    seen: Seen


@dataclass(frozen=True, slots=True)
class Keep:
    seen: Seen


@dataclass(frozen=True, slots=True)
class Remove:
    """One too many."""

    seen: Seen


@dataclass(frozen=True, slots=True)
class Rename:
    """One whose predecessor is gone: the last step of making it anew, which something cut short."""

    seen: Seen
    name: str


Action = Create | Recreate | Keep | Remove | Rename


@dataclass(frozen=True, slots=True)
class Facts:
    """About a service: what its image's name means, its networks (ID by name), whether what it shares was made anew."""

    image_id: str
    networks: Mapping[str, str]
    moved: bool = False


def diverged(service: JSON, seen: Seen, facts: Facts) -> bool:
    """Whether a container is not what the service would be made as now."""
    if facts.moved or seen.labels.get(labels.CONFIG_HASH) != config_hash(service):
        return True
    if facts.image_id and seen.labels.get(labels.IMAGE, seen.summary["ImageID"]) != facts.image_id:
        return True
    connected = (seen.summary.get("NetworkSettings") or {}).get("Networks") or {}
    # A container that never ran has no IDs yet: it will be on the networks of these names.
    return any(
        name not in connected or connected[name].get("NetworkID") not in ("", id) for name, id in facts.networks.items()
    )


def container_name(project: Project, service_name: str, service: JSON, number: int, separator: str = "-") -> str:
    return str(service.get("container_name") or separator.join((project.name, service_name, str(number))))


def plan(service: JSON, there: Sequence[Seen], want: int, policy: Policy, facts: Facts) -> list[Action]:
    """In the order to do them: what is left of an attempt before, what is one too many, then the rest by number."""
    names = {seen.name for seen in there}
    first: list[Action] = []
    standing: list[Seen] = []
    for seen in there:
        replaced = seen.labels.get(labels.REPLACES, "")
        if replaced and seen.name != replaced and replaced in names:
            first.append(Remove(seen))  # the one that it was to replace still is
            continue
        if replaced and seen.name != replaced and seen.name.endswith("_" + replaced):
            first.append(Rename(seen, replaced))
        standing.append(seen)
    stale = {
        seen.id: policy == "force" or (policy == "diverged" and diverged(service, seen, facts)) for seen in standing
    }
    # Obsolete ones go first, then those that do not run, then the youngest.
    by_worth = sorted(standing, key=lambda s: (stale[s.id], not s.running, s.number))
    kept = {seen.id for seen in by_worth[:want]}
    first += [Remove(seen) for seen in standing if seen.id not in kept]
    rest: list[Action] = [Recreate(seen) if stale[seen.id] else Keep(seen) for seen in standing if seen.id in kept]
    highest = max((seen.number for seen in standing), default=0)
    rest += [Create(highest + n) for n in range(1, want - len(kept) + 1)]
    return first + rest
