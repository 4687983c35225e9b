"""What a mutation is: one protection taken out of the source, and the test that must fail without it."""

import ast
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Edit:
    """One place below src/rorqual where `old`, which is there exactly once, becomes `new`."""

    file: str
    old: str
    new: str

    def applied(self, top: Path) -> str:
        """The file's text, changed. Raises: ValueError when `old` isn't there exactly once, SyntaxError."""
        text = (top / "src/rorqual" / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {text.count(self.old)} times, not once: {self.old!r}")
        changed = text.replace(self.old, self.new)
        ast.parse(changed)
        return changed


@dataclass(frozen=True, slots=True)
class Mutation:
    """`removed`: the protection in words, as docs/security.md has it; `test`: path::function.

    Several edits are one protection that stands in several places: each would still protect alone.
    """

    removed: str
    test: str
    edits: tuple[Edit, ...]


def mutation(removed: str, test: str, *edits: tuple[str, str, str]) -> Mutation:
    """`edits`: (file below src/rorqual, old text, new text)."""
    return Mutation(removed, test, tuple(Edit(*edit) for edit in edits))
