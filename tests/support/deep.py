"""A tree as a hostile container makes it: deeper than any path can name."""

import os
from pathlib import Path


def descend(top: Path, depth: int) -> int:
    """Make `depth` directories, each in the last one, below `top`, which is there; an fd of the innermost."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    return fd
