"""features: what this runtime can do on any kernel, as engines ask for it. Source: runtime-spec features.md."""

from __future__ import annotations

import json
import sys

from rorqual.linux import capabilities, namespaces
from rorqual.linux import seccomp as kernel
from rorqual.runc import seccomp
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, expect
from rorqual.runc.rootfs import options
from rorqual.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def run(line: Line, context: Context) -> int:
    expect(line, "features", 0, 0)
    sys.stdout.write(json.dumps(document(), indent=4) + "\n")
    return 0


def document() -> dict[str, Any]:
    flags = sorted(kernel.FLAGS)
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": list(HOOKS),
        "mountOptions": list(options.OPTIONS),
        "linux": {
            "namespaces": sorted(namespaces.TYPES),
            "capabilities": list(capabilities.NUMBERS),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(seccomp.ACTIONS),
                "operators": sorted(kernel.COMPARE),
                "archs": sorted(f"SCMP_ARCH_{name}" for name in kernel.ARCHITECTURES),
                "knownFlags": flags,
                "supportedFlags": flags,
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "io.rorqual.runc.version": __version__,
            "org.opencontainers.runc.checkpoint.enabled": "true",
        },
        "potentiallyUnsafeConfigAnnotations": ["bundle", "org.systemd.property.", "org.criu.config"],
    }
