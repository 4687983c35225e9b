"""The flag --format: one declaration for each of its three texts, shared by all commands that have it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Flag

_TEMPLATE = (
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)
_OBJECT = "Format output using a custom template:\n" + _TEMPLATE
_LIST = (
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n" + _TEMPLATE
)

# Of inspect, version and info.
INSPECT_FORMAT: Flag = ("format", "f", "string", "", _OBJECT)
# Of events.
OBJECT_FORMAT: Flag = ("format", "", "string", "", _OBJECT)
# Of lists.
LIST_FORMAT: Flag = ("format", "", "string", "", _LIST)
