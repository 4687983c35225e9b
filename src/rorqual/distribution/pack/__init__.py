"""Files below a directory become a tar stream: layers of a commit, `export`, `cp`, and the archives of `save`.

    directory fd -> walk (by fd) -> headers + data -> write(bytes), in pieces of at most about 1 MiB

`Packer` is synchronous and knows neither asyncio nor the network; `Stream` runs one in a thread for an event loop.
The way back is `rorqual.distribution.unpack`: a tree that it made packs to the same bytes again.
"""

from rorqual.distribution.pack.headers import Member
from rorqual.distribution.pack.packer import Options, Packed, Packer, Write
from rorqual.distribution.pack.stream import Stream

__all__ = ["Member", "Options", "Packed", "Packer", "Stream", "Write"]
