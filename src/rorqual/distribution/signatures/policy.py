"""Which repositories' images must be signed, and by which keys: the daemon's `image-signatures`.

The first rule whose pattern fits a repository's whole name (`docker.io/library/busybox`) counts; a rule without keys
lets everything of it pass, and so does no rule at all.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rorqual.distribution.signatures import keys
from rorqual.distribution.signatures.keys import PublicKey
from rorqual.errdefs import InvalidArgument
from rorqual.oci.reference import Reference

_FIELDS = {"repository", "keys", "same-repository"}


@dataclass(frozen=True, slots=True)
class Rule:
    """`pattern`: as a shell's, `*` over slashes too. `same_repository`: the signature must name the repository."""

    pattern: str
    keys: tuple[PublicKey, ...]
    same_repository: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in their order."""

    rules: tuple[Rule, ...] = ()

    def rule_for(self, reference: Reference) -> Rule | None:
        """The rule that demands signatures of the reference's repository; None when none does."""
        for rule in self.rules:
            # Hosts may be written in capitals: that is no other registry.
            if fnmatch.fnmatchcase(reference.name.lower(), rule.pattern.lower()):
                return rule if rule.keys else None
        return None


def parse(entries: Sequence[Mapping[str, object]]) -> Policy:
    """The policy of `image-signatures`; reads the key files. Raises: InvalidArgument naming what is wrong."""
    return Policy(tuple(_rule(number, entry) for number, entry in enumerate(entries)))


def _rule(number: int, entry: Mapping[str, object]) -> Rule:
    where = f"image-signatures[{number}]"
    if unknown := sorted(entry.keys() - _FIELDS):
        raise InvalidArgument(f"{where}: unknown field {unknown[0]!r}")
    pattern, files, same = entry.get("repository"), entry.get("keys"), entry.get("same-repository", False)
    if not isinstance(pattern, str) or not re.fullmatch(r"[a-z0-9*?][a-zA-Z0-9._:/*?\[\]!-]*", pattern):
        raise InvalidArgument(f"{where}: repository must be a name or a pattern of names, not {pattern!r}")
    if "/" not in pattern and pattern != "*":
        # A bare name would look as if it meant Docker Hub's, and fit nothing.
        raise InvalidArgument(f"{where}: repository {pattern!r} must be whole, such as docker.io/library/{pattern}")
    if not isinstance(files, list) or not all(isinstance(file, str) and os.path.isabs(file) for file in files):
        raise InvalidArgument(f"{where}: keys must be a list of absolute paths")
    if not isinstance(same, bool):
        raise InvalidArgument(f"{where}: same-repository must be true or false")
    return Rule(pattern, tuple(keys.load(file) for file in files), same)
