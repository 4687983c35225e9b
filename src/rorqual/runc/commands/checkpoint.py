"""checkpoint, restore: not offered; said so clearly."""

from rorqual.errdefs import NotImplementedHere
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line


def refuse(line: Line, context: Context) -> int:
    raise NotImplementedHere("checkpoint and restore need CRIU, which this runtime does not drive")
