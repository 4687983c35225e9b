"""What the prune commands say."""

from __future__ import annotations

from rorqual.cli.errors import Exit
from rorqual.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.command import Context

    JSON = dict[str, Any]


def declined(kind: str) -> Exit:
    """The end of a prune that the user did not confirm."""
    return Exit(1, f"{kind} prune has been cancelled")


def report(context: Context, title: str, removed: list[str] | None, reclaimed_bytes: int | None) -> None:
    """The removed objects under a title, then the space won (None: says nothing of space)."""
    if removed:
        context.out("\n".join([title, *removed, ""]))
    if reclaimed_bytes is not None:
        context.out(f"Total reclaimed space: {human_size(reclaimed_bytes)}")


def image_lines(deleted: list[JSON] | None) -> list[str]:
    """One line a step of an image's removal."""
    return [
        f"untagged: {step['Untagged']}" if step.get("Untagged") else f"deleted: {step.get('Deleted', '')}"
        for step in deleted or ()
    ]
