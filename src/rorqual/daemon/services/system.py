"""What the engine says of itself: version, info; and whether a registry takes credentials."""

from __future__ import annotations

import asyncio
import os
import platform as host
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from rorqual import version
from rorqual.api.image import AuthConfig
from rorqual.api.system import (
    AddressPool,
    Commit,
    ComponentVersion,
    ContainerdInfo,
    ContainerdNamespaces,
    FirewallInfo,
    IndexInfo,
    Info,
    PlatformName,
    PluginsInfo,
    RegistryServiceConfig,
    RuntimeInfo,
    SwarmInfo,
    Version,
)
from rorqual.daemon.config import BUILTIN_RUNTIME, DaemonConfig
from rorqual.daemon.services import clock, logconfig
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images.library import Library
from rorqual.distribution.proxies import masked
from rorqual.version import API_VERSION, MIN_API_VERSION, __version__

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
Login = Callable[[AuthConfig], Awaitable[str]]


def _built() -> str:
    """When this release was installed: nothing is compiled, so its files' time stands for the build's."""
    seconds = os.stat(version.__file__).st_mtime
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class System:
    """Version, info, auth."""

    def __init__(
        self,
        config: DaemonConfig,
        engine_id: str,
        registry: Registry,
        library: Library,
        events: Events,
        login: Login,
        driver_status: Callable[[], Awaitable[tuple[tuple[str, str], ...]]],
        containerd: Callable[[], Awaitable[str]],
        swarm: Callable[[], SwarmInfo],
    ) -> None:
        self._swarm = swarm
        self._containerd = containerd
        self._driver_status = driver_status
        self._config = config
        self._id = engine_id
        self._registry = registry
        self._library = library
        self._events = events
        self.login = login

    async def version(self) -> Version:
        """GET /version."""
        kernel, arch = host.release(), _ARCHITECTURES.get(host.machine(), host.machine())
        details = {
            "ApiVersion": API_VERSION,
            "Arch": arch,
            "BuildTime": _built(),
            "Experimental": "false",
            "GitCommit": "",
            "GoVersion": f"python{host.python_version()}",
            "KernelVersion": kernel,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
        }
        return Version(
            platform=PlatformName("Rorqual Engine"),
            components=(
                ComponentVersion("Engine", __version__, details),
                ComponentVersion("rorqual-containerd", await self._containerd(), {"GitCommit": ""}),
                ComponentVersion("rorqual-runc", __version__, {"GitCommit": ""}),
            ),
            version=__version__,
            api_version=API_VERSION,
            min_api_version=MIN_API_VERSION,
            git_commit="",
            go_version=f"python{host.python_version()}",
            os="linux",
            arch=arch,
            kernel_version=kernel,
            build_time=_built(),
        )

    async def info(self) -> Info:
        """GET /info."""
        config = self._config
        states = [c.state.status for c in self._registry]
        running = states.count("running") + states.count("restarting")
        paused = states.count("paused")
        facts = await asyncio.to_thread(_host_facts)
        # the others have nothing to tell: no call for them
        driver_status = await self._driver_status() if config.snapshotter == "devmapper" else ()
        proxies = config.proxies.over()
        runtimes = {BUILTIN_RUNTIME: RuntimeInfo(path="rorqual-runc")}
        runtimes |= {name: RuntimeInfo(r.path, r.args or None) for name, r in config.runtimes.items()}
        return Info(
            id=self._id,
            containers=len(states),
            containers_running=running,
            containers_paused=paused,
            containers_stopped=len(states) - running - paused,
            images=len(self._library.by_id()),
            driver=config.storage_driver,
            driver_status=(("driver-type", "io.containerd.snapshotter.v1"), *driver_status),
            plugins=PluginsInfo(
                volume=("local",),
                network=("bridge", "host", "ipvlan", "macvlan", "null", "overlay"),
                authorization=None,
                log=logconfig.DRIVERS,
            ),
            memory_limit=facts.controller("memory"),
            swap_limit=facts.controller("memory"),
            cpu_cfs_period=facts.controller("cpu"),
            cpu_cfs_quota=facts.controller("cpu"),
            cpu_shares=facts.controller("cpu"),
            cpu_set=facts.controller("cpuset"),
            pids_limit=facts.controller("pids"),
            ipv4_forwarding=True,
            oom_kill_disable=not facts.cgroup_v2,
            debug=config.debug,
            n_fd=facts.open_files,
            n_goroutines=len(asyncio.all_tasks()),
            system_time=clock.rfc3339(clock.now_ns()),
            logging_driver=config.log_driver,
            cgroup_driver=config.cgroup_driver,
            cgroup_version="2" if facts.cgroup_v2 else "1",
            n_events_listener=self._events.listeners,
            kernel_version=host.release(),
            operating_system=facts.os_name,
            os_version=facts.os_version,
            os_type="linux",
            architecture=host.machine(),
            index_server_address="https://index.docker.io/v1/",
            registry_config=_registries(config),
            ncpu=os.cpu_count() or 1,
            mem_total=facts.memory,
            docker_root_dir=str(config.data_root),
            http_proxy=masked(proxies.http),
            https_proxy=masked(proxies.https),
            no_proxy=proxies.none,
            name=host.node(),
            labels=config.labels,
            server_version=__version__,
            runtimes=runtimes,
            default_runtime=config.default_runtime,
            swarm=self._swarm(),
            live_restore_enabled=True,
            init_binary="docker-init",
            containerd_commit=Commit(await self._containerd()),
            runc_commit=Commit(__version__),
            init_commit=Commit(""),
            security_options=("name=seccomp,profile=builtin",),
            default_address_pools=tuple(AddressPool(p["base"], p["size"]) for p in config.default_address_pools),
            firewall_backend=FirewallInfo("nftables"),
            cdi_spec_dirs=config.cdi_spec_dirs,
            containerd=ContainerdInfo(
                str(config.containerd_address), ContainerdNamespaces(config.containerd_namespace, "")
            ),
        )


class _Facts:
    """What the host is, read at each call: cheap, and memory or files do change."""

    def __init__(self) -> None:
        self.cgroup_v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        self.controllers = self._controllers()
        self.memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.open_files = len(os.listdir("/proc/self/fd"))
        release = _os_release()
        self.os_name = release.get("PRETTY_NAME", "Linux")
        self.os_version = release.get("VERSION_ID", "")

    def _controllers(self) -> set[str]:
        if self.cgroup_v2:
            return set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
        lines = Path("/proc/cgroups").read_text().splitlines()[1:]
        return {f[0] for line in lines if len(f := line.split()) == 4 and f[3] == "1"}

    def controller(self, name: str) -> bool:
        """Whether the kernel limits that."""
        return name in self.controllers


def _host_facts() -> _Facts:
    return _Facts()


def _os_release() -> dict[str, str]:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.strip('"') for name, _, value in pairs}


def _registries(config: DaemonConfig) -> RegistryServiceConfig:
    indexes = {"docker.io": IndexInfo("docker.io", config.registry_mirrors, True, True)}
    cidrs = ["127.0.0.0/8", "::1/128"]
    for entry in config.insecure_registries:
        if "/" in entry:
            cidrs.append(entry)
        else:
            indexes[entry] = IndexInfo(entry, (), False, False)
    return RegistryServiceConfig(tuple(cidrs), indexes, config.registry_mirrors or None)
