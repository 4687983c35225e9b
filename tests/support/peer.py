"""A stock dockerd in place of our engine (`pytest --peer dockerd`): it proves the tests, not the engine.

A test that fails against it asks for something that Docker does not do, or that an old version does not do.
"""

import shutil

from support import processes
from support.engine import Engine


class Dockerd(Engine):
    """dockerd with its own containerd, in the same surroundings as ours."""

    def __init__(self, *arguments: str, **options: bool) -> None:
        super().__init__(*arguments, **options)
        self.bridge = "docker0"

    @property
    def daemon_argv(self) -> list[str]:
        program = shutil.which("dockerd")
        assert program, "dockerd is not installed"
        mine = super().daemon_argv[1:]
        return [program, *(flag for flag in mine if not flag.startswith("--bridge="))]

    def pids(self, name: str, container: str = "") -> list[int]:
        if name in ("rorquald", "all"):
            return super().pids(name, container)
        ours = processes.belonging(self.marker, self.cgroup_parent)
        if name == "shim":
            return [p.pid for p in ours if "containerd-shim" in p.command and (not container or container in p.command)]
        return [p.pid for p in ours if p.argv and p.argv[0].endswith("containerd")] if name == "containerd" else []

    def _leftovers_of_containers(self) -> list[str]:
        """Not looked for: this dockerd collects network namespaces minutes later."""
        return []
