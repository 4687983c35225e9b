"""Pseudo terminals of a given devpts instance, by fd: nothing is looked up by the name the slave claims to have."""

import fcntl
import os
import struct
import termios

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


def open_pair(devpts_fd: int) -> tuple[int, int]:
    """A new (master, slave) of the devpts instance whose root directory `devpts_fd` is."""
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts_fd)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def make_controlling(fd: int) -> None:
    """Make the terminal this session's own; the caller leads a session without one."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
