"""--cap-add, --cap-drop and --privileged to a capability set. Source: capabilities(7), moby's oci/caps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from rorqual.errdefs import InvalidArgument
from rorqual.oci.defaults import ALL_CAPABILITIES, CAPABILITIES

_ALL = "ALL"


@functools.cache
def known() -> tuple[str, ...]:
    """Every capability this kernel has."""
    try:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    except (OSError, ValueError):
        return ALL_CAPABILITIES
    return ALL_CAPABILITIES[: last + 1]


def normalise(names: Sequence[str], option: str) -> tuple[str, ...]:
    """Upper case, with CAP_. Raises: InvalidArgument for an unknown one."""
    found: list[str] = []
    for name in names:
        text = name.upper()
        if text == _ALL:
            found.append(text)
            continue
        if not text.startswith("CAP_"):
            text = "CAP_" + text
        if text not in ALL_CAPABILITIES:
            raise InvalidArgument(f'invalid {option}: unknown capability: "{text}"')
        if text not in known():
            raise InvalidArgument(
                f'invalid {option}: capability not supported by your kernel or not available: "{text}"'
            )
        found.append(text)
    return tuple(found)


def effective(add: Sequence[str], drop: Sequence[str], *, privileged: bool) -> tuple[str, ...]:
    """The set, in the kernel's order. Raises: InvalidArgument."""
    adds, drops = normalise(add, "CapAdd"), normalise(drop, "CapDrop")
    if privileged:
        return known()
    if _ALL in drops:
        base: set[str] = set()
        drops = ()
    else:
        base = set(CAPABILITIES)
    if _ALL in adds:
        base = set(known())
    base -= set(drops)
    base |= set(adds) - {_ALL}
    return tuple(c for c in known() if c in base)
