"""A swarm's nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rorqual.api.swarm import Node, NodeSpec, Version
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.swarm import objects
from rorqual.swarm.objects import Member
from rorqual.swarm.store.state import OUT_OF_SEQUENCE, State, Stored

ROLES = ("worker", "manager")
AVAILABILITIES = ("active", "pause", "drain")


class NodeManager:
    """Looks for nodes, and changes them."""

    def __init__(self, state: State, now: Callable[[], str]) -> None:
        self._state, self._now = state, now

    def all(self) -> list[Node]:
        """Every node, oldest first."""
        return sorted(map(_shown, self._state.all(objects.NODE)), key=lambda node: (node.created_at, node.id))

    def get(self, reference: str) -> Node:
        """By id, host name, or start of an id. Raises: NotFound, InvalidArgument when ambiguous."""
        return _shown(self._find(reference))

    def _find(self, reference: str) -> Stored:
        found = self._state.get(objects.NODE, reference)
        if found is not None:
            return found
        nodes = self._state.all(objects.NODE)
        named: Sequence[Stored] = [n for n in nodes if objects.read(Member, n).description.hostname == reference]
        matching = named or [n for n in nodes if reference and n.id.startswith(reference)]
        if len(matching) > 1:
            raise InvalidArgument(f"node {reference} is ambiguous ({len(matching)} matches found)")
        if not matching:
            raise NotFound(f"node {reference} not found")
        return matching[0]

    async def update(self, reference: str, version: int, wanted: NodeSpec) -> None:
        """Change labels, availability, role. Raises: NotFound, InvalidArgument."""
        if wanted.role not in ROLES:
            raise InvalidArgument(f'invalid Role: "{wanted.role}"')
        if wanted.availability not in AVAILABILITIES:
            raise InvalidArgument(f'invalid Availability: "{wanted.availability}"')
        stored = self._find(reference)
        member = objects.read(Member, stored)
        if wanted.role == "worker" and member.spec.role == "manager" and self._managers() == 1:
            raise InvalidArgument("attempting to demote the last manager of the swarm")
        if wanted.role != member.spec.role:
            raise InvalidArgument(f"the role of node {member.id} cannot be changed")
        if stored.revision != version:
            raise InvalidArgument(OUT_OF_SEQUENCE)
        spec = replace(wanted, labels=dict(wanted.labels or {}))
        changed = replace(member, spec=spec, updated_at=self._now())
        await self._state.commit(put=[objects.stored(objects.NODE, member.id, changed, revision=version)])

    def _managers(self) -> int:
        return sum(objects.read(Member, n).spec.role == "manager" for n in self._state.all(objects.NODE))

    async def remove(self, reference: str, *, force: bool) -> None:
        """Forget a node that is gone. Raises: NotFound, InvalidArgument for a manager, or for one that is there."""
        stored = self._find(reference)
        member = objects.read(Member, stored)
        if member.spec.role == "manager":
            raise InvalidArgument(
                f"node {member.id} is a cluster manager and is a member of the raft cluster. It must be demoted to "
                "worker before removal"
            )
        if member.status.state == "ready" and not force:
            raise InvalidArgument(f"node {member.id} is not down and can't be removed")
        await self._state.commit(delete=[stored])

    async def describe(self, member: Member) -> None:
        """What a node says of itself, and of its address, from now on. Its spec and its past stay."""
        stored = self._state.get(objects.NODE, member.id)
        if stored is None:
            raise NotFound(f"node {member.id} not found")
        had = objects.read(Member, stored)
        new = replace(had, description=member.description, status=member.status, manager=member.manager)
        if new != had:
            await self._state.commit(
                put=[
                    objects.stored(
                        objects.NODE, member.id, replace(new, updated_at=self._now()), revision=stored.revision
                    )
                ]
            )


def _shown(stored: Stored) -> Node:
    member = objects.read(Member, stored)
    return Node(
        member.id,
        Version(stored.revision),
        member.created_at,
        member.updated_at,
        member.spec,
        member.description,
        member.status,
        member.manager,
    )
