"""Platforms: `linux/arm64/v8`, their normal form, and which of an index's entries fits best.

Source: github.com/containerd/platforms (normalisation and order of preference), image-spec image-index.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rorqual.errdefs import InvalidArgument
from rorqual.oci.fields import Fields

# Go's names, all that an index may use.
_OSES = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
    "openbsd", "plan9", "solaris", "windows", "zos",
})  # fmt: skip
_ARCHITECTURES = frozenset({
    "386", "amd64", "arm", "armbe", "arm64", "arm64be", "ppc", "ppc64", "ppc64le", "loong64", "mips", "mipsle",
    "mips64", "mips64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
})  # fmt: skip
_PART = re.compile(r"[A-Za-z0-9_.-]+")
_OS_PART = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?")


@dataclass(frozen=True, slots=True)
class Platform:
    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def to_json(self) -> dict[str, object]:
        """As in an index or an Engine API answer."""
        found: dict[str, object] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            found["os.version"] = self.os_version
        if self.os_features:
            found["os.features"] = list(self.os_features)
        if self.variant:
            found["variant"] = self.variant
        return found

    @classmethod
    def from_fields(cls, fields: Fields) -> Platform:
        return cls(
            os=fields.text("os"),
            architecture=fields.text("architecture"),
            variant=fields.text("variant"),
            os_version=fields.text("os.version"),
            os_features=fields.texts("os.features"),
        )


def normalize(platform: Platform) -> Platform:
    """The same in the names Go uses: `x86_64` is amd64, `arm` is arm/v7, `arm64/v8` is arm64."""
    system = platform.os.lower() or "linux"
    architecture, variant = _normal_architecture(platform.architecture, platform.variant)
    return replace(platform, os="darwin" if system == "macos" else system, architecture=architecture, variant=variant)


def _normal_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    if architecture == "i386":
        return "386", ""
    if architecture in ("x86_64", "x86-64", "amd64"):
        return "amd64", "" if variant == "v1" else variant
    if architecture in ("aarch64", "arm64"):
        return "arm64", {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"}.get(variant, variant)
    if architecture == "armhf":
        return "arm", "v7"
    if architecture == "armel":
        return "arm", "v6"
    if architecture == "arm":
        return "arm", {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    return architecture, variant


def host() -> Platform:
    """This machine's platform; the variant of amd64 is left out (every amd64 image runs, or says so itself)."""
    machine = os.uname().machine
    variant = {"armv7l": "v7", "armv6l": "v6"}.get(machine, "")
    return normalize(Platform("linux", "arm" if variant else machine, variant))


def parse(text: str) -> Platform:
    """`os`, `arch`, `os/arch` or `os/arch/variant`; what is left out is this machine's.

    Raises: InvalidArgument naming the text.
    """
    parts = text.split("/")
    if not 1 <= len(parts) <= 3:
        raise InvalidArgument(f'"{text}": cannot parse platform specifier')
    head = _OS_PART.fullmatch(parts[0])
    if head is None or not all(_PART.fullmatch(part) for part in parts[1:]):
        bad = parts[0] if head is None else next(part for part in parts[1:] if not _PART.fullmatch(part))
        raise InvalidArgument(f'"{bad}" is an invalid component of "{text}": platform specifier component must match')
    here = host()
    if len(parts) > 1:
        variant = parts[2] if len(parts) == 3 else ""
        return normalize(Platform(head[1], parts[1], variant, os_version=head[2] or ""))
    system = normalize(Platform(parts[0], "")).os
    if system in _OSES:
        return Platform(system, here.architecture, here.variant)
    architecture, variant = _normal_architecture(parts[0], "")
    if architecture in _ARCHITECTURES:
        return Platform("linux", architecture, variant)
    raise InvalidArgument(f'"{text}": unknown operating system or architecture')


def compatible(platform: Platform) -> tuple[Platform, ...]:
    """What a machine of `platform` can run, the best first: arm/v7 also v6 and v5, amd64 also 386, arm64 also arm."""
    wanted = normalize(platform)
    if wanted.architecture == "amd64":
        lower = _versions_down(wanted, 1)
        return (*lower, replace(wanted, architecture="386", variant=""))
    if wanted.architecture == "arm":
        return _versions_down(wanted, 5)
    if wanted.architecture == "arm64":
        variants = _arm64_variants(wanted.variant or "v8")
        return (
            *(normalize(replace(wanted, variant=variant)) for variant in variants),
            *_versions_down(replace(wanted, architecture="arm", variant="v8"), 5),
        )
    return (wanted,)


def _versions_down(platform: Platform, lowest: int) -> tuple[Platform, ...]:
    text = platform.variant.removeprefix("v")
    if not text.isdecimal():
        return (platform,)
    below = (normalize(replace(platform, variant=f"v{version}")) for version in range(int(text) - 1, lowest - 1, -1))
    return (platform, *below)


def _arm64_variants(variant: str) -> list[str]:
    match = re.fullmatch(r"v([89])(?:\.([0-9]))?", variant)
    if match is None:
        return [variant]
    major, minor = int(match[1]), int(match[2] or 0)
    # v9.n contains v8.(n+5), as the architecture's manual says.
    steps = [(major, minor)] if major == 8 else [(9, minor), (8, min(minor + 5, 9))]
    return [f"v{m}.{n}" if n else f"v{m}" for m, top in steps for n in range(top, -1, -1)]


def _matches(wanted: Platform, offered: Platform) -> bool:
    offered = normalize(offered)
    if (wanted.os, wanted.architecture, wanted.variant) != (offered.os, offered.architecture, offered.variant):
        return False
    if not set(offered.os_features) <= set(wanted.os_features):
        return False
    if wanted.os != "windows" or not wanted.os_version or not offered.os_version:
        return True
    # Windows runs an image of its own build only: major.minor.build, not the revision behind them.
    return wanted.os_version.split(".")[:3] == offered.os_version.split(".")[:3]


def same(wanted: Platform, offered: Platform) -> bool:
    """Whether `offered` is `wanted` itself, not only something that it could run."""
    return _matches(normalize(wanted), offered)


def choose(wanted: Platform, offered: Sequence[Platform | None]) -> int | None:
    """The position of the best fit for `wanted`, the first among equals, or None.

    Entries without a platform never fit.
    """
    for candidate in compatible(wanted):
        for position, platform in enumerate(offered):
            if platform is not None and _matches(candidate, platform):
                return position
    return None
