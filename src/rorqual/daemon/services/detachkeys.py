"""Which detach keys a client may ask for. The shim turns them into bytes and watches for them."""

from __future__ import annotations

from rorqual.errdefs import InvalidArgument

_CONTROLS = frozenset("abcdefghijklmnopqrstuvwxyz@[\\]^_")


def check(keys: str, text: str) -> None:
    """Raises: InvalidArgument with `text`, in which {} stands for the keys, unless they are as --detach-keys says."""
    for key in keys.split(",") if keys else ():
        control = key.startswith("ctrl-") and key[5:] in _CONTROLS
        if not control and not (len(key) == 1 and key.isascii()) and key != "DEL":
            raise InvalidArgument(text.format(keys))
