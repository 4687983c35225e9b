"""spec: an example config.json to start from."""

from __future__ import annotations

import os

from rorqual.errdefs import AlreadyExists
from rorqual.linux import cgroups
from rorqual.oci import defaults, jsontext
from rorqual.oci.runtime import (
    Capabilities,
    DeviceRule,
    IDMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    Spec,
)
from rorqual.record import replace
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, expect, flag, value

OPTIONS = (
    value("bundle", "b", help="path to the root of the bundle directory"),
    flag("rootless", help="generate a configuration for a rootless container"),
)

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def run(line: Line, context: Context) -> int:
    expect(line, "spec", 0, 0)
    if line.get("bundle"):
        os.chdir(line.get("bundle"))
    spec = example()
    if line.has("rootless"):
        spec = rootless(spec, os.geteuid(), os.getegid())
    try:
        fd = os.open("config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise AlreadyExists("File config.json exists. Remove it first") from None
    with open(fd, "w") as f:
        f.write(jsontext.dumps_indented(jsontext.loads(spec.to_json()), "\t"))
    return 0


def example() -> Spec:
    sets = Capabilities(_CAPABILITIES, _CAPABILITIES, _CAPABILITIES, (), _CAPABILITIES)
    mounts = tuple(
        replace(m, options=(*m.options, "relatime", "ro")) if m.type == "cgroup" and "ro" not in m.options else m
        for m in defaults.MOUNTS
    )
    kinds = ["pid", "network", "ipc", "uts", "mount"]
    if cgroups.is_unified():
        kinds.append("cgroup")
    return Spec(
        process=Process(
            terminal=True,
            args=("sh",),
            env=(defaults.PATH_ENV, "TERM=xterm"),
            capabilities=sets,
            rlimits=(Rlimit("RLIMIT_NOFILE", 1024, 1024),),
            no_new_privileges=True,
        ),
        root=Root("rootfs", True),
        hostname="rorqual-runc",
        mounts=mounts,
        linux=Linux(
            resources=Resources(devices=(DeviceRule(False, access="rwm"),)),
            namespaces=tuple(Namespace(kind) for kind in kinds),
            masked_paths=defaults.MASKED_PATHS,
            readonly_paths=defaults.READONLY_PATHS,
        ),
    )


def rootless(spec: Spec, uid: int, gid: int) -> Spec:
    """What an ordinary user may run: in a user namespace that maps just them, in the host's network and cgroups."""
    assert spec.linux is not None
    mounts = []
    for mount in spec.mounts:
        if mount.type == "cgroup":
            continue
        if mount.type == "sysfs":
            mount = Mount("/sys", "none", "/sys", ("rbind", "nosuid", "noexec", "nodev", "ro"))
        options = tuple(o for o in mount.options if not o.startswith(("gid=", "uid=")))
        mounts.append(replace(mount, options=options))
    kinds = tuple(n for n in spec.linux.namespaces if n.type != "network")
    linux = replace(
        spec.linux,
        namespaces=(*kinds, Namespace("user")),
        uid_mappings=(IDMapping(0, uid, 1),),
        gid_mappings=(IDMapping(0, gid, 1),),
        resources=None,
    )
    return replace(spec, mounts=tuple(mounts), linux=linux)
