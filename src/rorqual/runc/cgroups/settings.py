"""What a controller decides: the files to write, in order."""

from __future__ import annotations

from rorqual.record import record


@record
class Write:
    """`value` into `file` of the group's directory. `optional`: a kernel without that file is fine."""

    file: str
    value: str
    optional: bool = False


Writes = list[Write]
