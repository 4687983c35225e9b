"""linux.netDevices: interfaces of the runtime's network namespace moved into the container's, with their addresses.

The parent does it between clone and hooks. An interface that is moved goes down and loses its addresses: they are read
before and given back there. When the namespace ends the kernel takes a physical one back to the host's.

Source: runtime-spec config-linux.md, Network Devices; dev_valid_name() of the kernel.
"""

from __future__ import annotations

import os

from rorqual.errdefs import InvalidArgument
from rorqual.linux import namespaces
from rorqual.oci.runtime import NetDevice
from rorqual.runc.errors import StartError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.linux import netlink

_NAME_MAX = 15


def check(devices: dict[str, NetDevice], own_network: bool) -> None:
    """Raises: InvalidArgument naming the member."""
    if devices and not own_network:
        raise InvalidArgument("invalid config: linux.netDevices needs a network namespace of the container's own")
    names: set[str] = set()
    for source, device in devices.items():
        for name in (source, device.name or source):
            if not _is_valid(name):
                raise InvalidArgument(f"invalid config: linux.netDevices: {name!r} is no name of an interface")
        if (device.name or source) in names:
            raise InvalidArgument(f"invalid config: linux.netDevices: {device.name or source!r} is given twice")
        names.add(device.name or source)


def _is_valid(name: str) -> bool:
    bad = name in ("", ".", "..") or any(c in "/:" or c.isspace() for c in name)
    return not bad and len(os.fsencode(name)) <= _NAME_MAX


def move(devices: dict[str, NetDevice], namespace: str) -> None:
    """`namespace`: path of the container's. Raises: StartError."""
    import socket

    from rorqual.linux import netlink  # needs much of the library: only where it is asked for

    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with netlink.RtNetlink() as here, _open_there(fd) as there:
            for source, device in devices.items():
                name = device.name or source
                try:
                    link = here.link(source)
                    if link is None:
                        raise OSError(19, "no such device")
                    addresses = [
                        address
                        for family in (socket.AF_INET, socket.AF_INET6)
                        for address in here.addresses(family)
                        if address.index == link.index and not _is_link_local(address.address)
                    ]
                    here.transact([netlink.move_link(link.index, fd, name)])
                    moved = there.link(name)
                    if moved is None:
                        raise OSError(19, "gone while it was moved")
                    requests = [netlink.new_address(moved.index, a.address, a.prefix) for a in addresses]
                    there.transact([*requests, netlink.set_link(index=moved.index, up=True)])
                except OSError as e:
                    raise StartError(
                        f"unable to start container process: moving network device {source}: {reason(e)}"
                    ) from e
    finally:
        os.close(fd)


def _is_link_local(address: bytes) -> bool:
    """fe80::/10: the kernel makes one in each namespace."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _open_there(fd: int) -> netlink.RtNetlink:
    """A socket on the namespace `fd`; the caller's own is the same again afterwards."""
    from rorqual.linux import netlink

    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(fd, namespaces.CLONE_NEWNET)
        try:
            return netlink.RtNetlink()
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWNET)
    finally:
        os.close(own)
