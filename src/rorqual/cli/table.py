"""Columns aligned as Go's text/tabwriter aligns them (minimum 10, padding 3), and --format for lists.

A list is a sequence of `Row`s: objects whose `fields` maps a template field's name to a function of no argument. A
default table is written without the template engine, which then is not even imported.
"""

from __future__ import annotations

import sys

from rorqual.cli.errors import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from rorqual.cli.gotemplate import Object

MIN_WIDTH = 10
PADDING = 3


def align(text: str) -> str:
    """Tab-separated lines with their columns aligned; a column is a block of consecutive lines that have it."""
    lines = [line.split("\t") for line in text.split("\n")]
    if len({len(cells) for cells in lines}) == 1:  # one block for each column, as a list has
        columns = list(zip(*lines, strict=True))[:-1]
        row = "".join([f"%-{_width(max(map(len, column)))}s" for column in columns]) + "%s"
        return "\n".join([row % tuple(cells) for cells in lines])
    _align_block(lines, 0, 0, len(lines))
    return "\n".join("".join(cells) for cells in lines)


def _width(content: int) -> int:
    return max(MIN_WIDTH, content + PADDING) if content else MIN_WIDTH


def _align_block(lines: list[list[str]], column: int, start: int, end: int) -> None:
    row = start
    while row < end:
        # A cell belongs to a column when a tab ends it, so a line's last cell never does.
        if len(lines[row]) - 1 <= column:
            row += 1
            continue
        first = row
        while row < end and len(lines[row]) - 1 > column:
            row += 1
        block = lines[first:row]
        width = _width(max([len(cells[column]) for cells in block]))
        for cells in block:
            cells[column] = cells[column].ljust(width)
        _align_block(lines, column + 1, first, row)


class Listing:
    """A kind of list: the type's name in errors (or an item's), its headers by field, its default columns.

    `field(item, name)` gives an item's value for a field; it raises KeyError for a name that is none.
    """

    __slots__ = ("columns", "field", "headers", "json_fields", "type_name")

    def __init__(
        self,
        type_name: str | Callable[[Any], str],
        headers: Mapping[str, str],
        columns: Sequence[str],
        field: Callable[[object, str], object],
        json_fields: Sequence[str],
    ) -> None:
        self.type_name = type_name
        self.headers = headers
        self.columns = columns
        self.field = field
        self.json_fields = json_fields

    def write(self, items: Iterable[object], format: str, *, columns: Sequence[str] | None = None) -> None:
        """Print the items: "" or "table" as the default table, else by the template.

        Raises: Exit for a template that cannot be read or executed.
        """
        if format in ("", "table"):
            self._plain(items, self.columns if columns is None else columns)
        else:
            self._templated(items, format)

    def _plain(self, items: Iterable[object], columns: Sequence[str]) -> None:
        field, headers = self.field, self.headers
        rows = ["\t".join(headers[c] for c in columns)]
        rows += ["\t".join(str(field(item, c)) for c in columns) for item in items]
        sys.stdout.write(align("\n".join(rows)) + "\n")

    def _templated(self, items: Iterable[object], format: str) -> None:
        from rorqual.cli.gotemplate import TemplateError, parse
        from rorqual.cli.gotemplate.docker import FUNCTIONS, HEADER_FUNCTIONS, unescape

        if format == "json":
            format = "{{json .}}"
        table = format.startswith("table")
        if table:
            format = format[len("table") :]
        text = unescape(format.strip())
        try:
            template = parse("", text, FUNCTIONS)
        except TemplateError as e:
            raise Exit(1, f"template parsing error: {e}") from e
        out: list[str] = []
        try:
            out += [template.execute(item) + "\n" for item in self.objects(items)]
            if table:
                head = parse("", text, HEADER_FUNCTIONS).execute(dict(self.headers)) + "\n"
                sys.stdout.write(align(head + "".join(out)))
            else:
                sys.stdout.write("".join(out))
        except TemplateError as e:
            raise Exit(1, f"template parsing error: {e}") from e

    def objects(self, items: Iterable[object]) -> list[Object]:
        """The items as templates see them, for a template that has the whole list."""
        from rorqual.cli.gotemplate import Object

        name = self.type_name
        return [
            Object(name if isinstance(name, str) else name(item), self._getter(item), self.json_fields)
            for item in items
        ]

    def _getter(self, item: object) -> Callable[[str], object]:
        return lambda name: self.field(item, name)
