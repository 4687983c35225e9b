"""A layer's stream becomes files below a directory: the synchronous library of rorqual-containerd's unpack workers.

    compressed bytes -> decompress (magic tells which) -> sha256 = diff ID -> tar entries -> disk, all in one pass

`apply()` is the only entry. It imports neither asyncio nor anything of the network.
"""

from rorqual.distribution.unpack.apply import Copying, UnpackResult, apply
from rorqual.distribution.unpack.limits import DEFAULT_LIMITS, Limits

__all__ = ["DEFAULT_LIMITS", "Copying", "Limits", "UnpackResult", "apply"]
