"""`rorqual images --tree`: images with their names, and a line for each platform, laid out as the docker CLI does."""

from __future__ import annotations

import os

from rorqual.cli import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.command import Context

    JSON = dict[str, Any]

_WARNING = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
_LEGEND = "Info ->  U In Use "
_COLUMNS = (("ID", 12), ("DISK USAGE", 10), ("CONTENT SIZE", 12), ("EXTRA", 5))
_GAP = "   "


class Line:
    """One line: the cells behind the name are empty for all names of an image but the last."""

    __slots__ = ("cells", "faint", "name")

    def __init__(self, name: str, cells: tuple[str, str, str, str] | None = None, *, faint: bool = False) -> None:
        self.name = name
        self.cells = cells
        self.faint = faint


def blocks(images: list[JSON]) -> list[list[Line]]:
    """The lines of each image."""
    found = []
    for image in sorted(images, key=lambda image: -image["Created"]):
        manifests = [m for m in image.get("Manifests") or () if m["Kind"] == "image"]
        content = sum(m["Size"]["Content"] for m in manifests)
        used = image.get("Containers", 0) > 0 or any(m["ImageData"].get("Containers") for m in manifests)
        names = image.get("RepoTags") or ["<untagged>"]
        lines = [Line(name) for name in names[:-1]]
        lines.append(Line(names[-1], _cells(image["Id"], image["Size"], content, used=used)))
        for number, manifest in enumerate(manifests):
            branch = "└─ " if number == len(manifests) - 1 else "├─ "
            size, data = manifest["Size"], manifest["ImageData"]
            cells = _cells(manifest["ID"], size["Total"], size["Content"], used=bool(data.get("Containers")))
            lines.append(Line(branch + _platform(data.get("Platform") or {}), cells, faint=not manifest["Available"]))
        found.append(lines)
    return found


def _cells(id: str, size: int, content: int, *, used: bool) -> tuple[str, str, str, str]:
    return units.truncate_id(id), units.human_size(size, 3), units.human_size(content, 3), "U" if used else ""


def _platform(platform: JSON) -> str:
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(part for part in parts if part) or "unknown"


def show(context: Context, images: list[JSON]) -> None:
    """Print the tree."""
    terminal = os.isatty(1)
    width = 80
    if terminal:
        try:
            width = os.get_terminal_size(1).columns or 80
        except OSError:
            width = 80
    found = blocks(images)
    # Bytes, as the docker CLI counts: a branch is wider than it looks.
    names = max([len(line.name.encode()) for lines in found for line in lines] + [len("IMAGE")])
    context.out(_WARNING)
    context.out(_LEGEND.rjust(width))
    context.out("")
    header = "IMAGE".ljust(names) + "".join(_GAP + title.ljust(size) for title, size in _COLUMNS)
    context.out(f"\x1b[1m{header.rstrip()}\x1b[0m" if terminal else header.rstrip())
    for lines in found:
        for line in lines:
            text = _text(line, names)
            context.out(f"\x1b[2m{text}\x1b[0m" if terminal and line.faint else text)
        context.out("")


def _text(line: Line, names: int) -> str:
    if line.cells is None:
        return line.name
    id, size, content, extra = line.cells
    cells = (id.ljust(12), size.rjust(10), content.rjust(12), extra.ljust(5))
    return (line.name.ljust(names) + "".join(_GAP + cell for cell in cells)).rstrip()
