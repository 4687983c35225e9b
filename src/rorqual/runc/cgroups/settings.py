"""What a controller decides: the files to write, in order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Write:
    """`value` into `file` of the group's directory. `optional`: a kernel without that file is fine."""

    file: str
    value: str
    optional: bool = False


Writes = list[Write]
