"""Running from a sealed copy of the interpreter, so that no container can write to the host's (CVE-2019-5736).

A process that joins a container's namespaces can be reached there as /proc/<pid>/exe. When that is the host's
interpreter, a container with enough privilege opens it for writing once it is no longer running. So whatever later
enters containers starts itself again from a memfd that the kernel lets nobody change, not even root.
"""

import errno
import fcntl
import os
import sys

_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def is_sealed() -> bool:
    """Whether this process runs from a memfd that can't be changed: asked of the kernel, not of the environment."""
    try:
        fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # EINVAL: an ordinary file
        return False
    finally:
        os.close(fd)


def reexec_sealed() -> None:
    """Return at once in a process that already runs sealed; otherwise start this very command line again, sealed.

    argv[0] stays the interpreter's path, by which Python finds its virtual environment and its library. File
    descriptors, environment and pid stay too. Raises: OSError when the kernel has no memfd or no memory for it.
    """
    if is_sealed():
        return
    arguments = _command_line()
    arguments[0] = os.fsencode(sys.executable)
    os.execve(_sealed_copy("/proc/self/exe"), arguments, os.environb)


def _command_line() -> list[bytes]:
    """The arguments as the kernel has them: sys.argv lacks the interpreter's own options."""
    with open("/proc/self/cmdline", "rb") as f:
        return f.read().split(b"\0")[:-1]


def _sealed_copy(path: str) -> int:
    target = _memfd()
    with open(path, "rb") as source:
        remaining = os.fstat(source.fileno()).st_size
        while remaining:
            remaining -= os.sendfile(target, source.fileno(), None, remaining)
    os.fchmod(target, 0o555)
    fcntl.fcntl(target, fcntl.F_ADD_SEALS, _SEALS)
    return target


def _memfd() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("rorqual", flags | _MFD_EXEC)
    except OSError as e:
        if e.errno != errno.EINVAL:  # before Linux 6.3 every memfd is executable
            raise
        return os.memfd_create("rorqual", flags)
