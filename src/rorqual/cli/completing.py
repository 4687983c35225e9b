"""`rorqual __complete WORD...`: candidates for the last word, one a line with a tab before what it is.

Commands and flags come from the tables; names of objects from the engine, when it answers.
"""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli import registry
from rorqual.cli.errors import FlagError, HelpWanted
from rorqual.cli.flags import FlagSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rorqual.cli.command import Context
    from rorqual.cli.flags import Flag

_ALL_CONTAINERS = frozenset(
    ("start", "rm", "inspect", "logs", "rename", "commit", "cp", "diff", "export", "wait", "update")
)
_RUNNING = frozenset(("stop", "kill", "restart", "exec", "attach", "pause", "unpause", "port", "stats", "top"))
_IMAGES = frozenset(("run", "create", "rmi", "tag", "push", "save", "history"))
_VALUES = {
    "restart": ("no", "always", "on-failure", "unless-stopped"),
    "pull": ("always", "missing", "never"),
    "type": ("container", "image", "network", "volume"),
    "log-driver": ("json-file", "local", "none"),
    "cgroupns": ("host", "private"),
}


def complete(context: Context, words: Sequence[str], global_flags: Sequence[Flag]) -> list[str]:
    """Lines `candidate<TAB>description` for the last of `words` (which may be empty)."""
    *before, current = words or ("",)
    skipped = leading(words, global_flags)
    if skipped > len(before):
        return []  # a global flag's value: anything
    before = before[skipped:]
    if before and before[0] in registry.GROUP_FLAGS:
        module = __import__(f"rorqual.cli.commands.{registry.GROUP_FLAGS[before[0]]}", fromlist=["FLAGS"])
        skipped = leading([*before[1:], current], module.FLAGS)
        if skipped > len(before) - 1:
            return []  # a flag's value
        try:
            context.group, _ = FlagSet(module.FLAGS, renamed=module.RENAMED).parse(before[1 : 1 + skipped])
        except (FlagError, HelpWanted):
            return []
        if current.startswith("-") and len(before) == 1 + skipped:
            return _flags(module.FLAGS, current)
        before = [before[0], *before[1 + skipped :]]
    path = [w for w in before if not w.startswith("-")]
    found = registry.find(path) if path else None
    if found is None:
        if current.startswith("-"):
            return _flags(global_flags, current)
        return _commands(path, current)
    from rorqual.cli.main import load

    command = load(found[0])
    verb = found[0].partition(".")[2]
    if current.startswith("-"):
        return _flags(command.flags, current)
    if before and before[-1].startswith("--"):
        name = before[-1][2:]
        if name in _VALUES:
            return [v for v in _VALUES[name] if v.startswith(current)]
        if name == "network":
            return _objects(lambda: [n["Name"] for n in context.client.networks.list()], current)
    return _names(context, found[0].partition(".")[0], verb, current)


def leading(words: Sequence[str], global_flags: Sequence[Flag]) -> int:
    """How many words are global flags and their values; all when the last one is such a value."""
    valued = {f"--{flag[0]}" for flag in global_flags if flag[2] != "bool"}
    valued |= {f"-{flag[1]}" for flag in global_flags if flag[1] and flag[2] != "bool"}
    index = 0
    while index < len(words) - 1 and words[index].startswith("-"):
        index += 2 if words[index] in valued else 1
    return index


def _commands(path: list[str], current: str) -> list[str]:
    if not path:
        rows = [(name, line) for name, (_, line) in {**registry.COMMON, **registry.OTHERS}.items()]
        rows += [(name, line) for name, (line, _) in registry.GROUPS.items()]
    elif path[0] in registry.GROUPS and len(path) == 1:
        rows = [(name, line) for name, (_, line) in registry.GROUPS[path[0]][1].items()]
    else:
        rows = []
    return [f"{name}\t{line}" for name, line in sorted(rows) if name.startswith(current)]


def _flags(flags: Sequence[Flag], current: str) -> list[str]:
    shown = [f for f in flags if len(f) < 6 or not f[5]]
    return [f"--{flag[0]}\t{flag[4].splitlines()[0]}" for flag in shown if f"--{flag[0]}".startswith(current)]


def _names(context: Context, group: str, verb: str, current: str) -> list[str]:
    if group == "compose":
        from rorqual.cli.commands.compose.loading import load

        return _objects(lambda: list(load(context, quiet=True, resolve_environment=False).services), current)
    client = context.client
    out: list[str] = []
    if group in ("container", "system") and verb in _ALL_CONTAINERS | _RUNNING:
        everything = verb in _ALL_CONTAINERS
        out += _objects(
            lambda: [n[1:] for c in client.containers.list(all=everything) for n in c["Names"] if n.count("/") == 1],
            current,
        )
    if verb in _IMAGES or group == "image":
        out += _objects(lambda: [t for i in client.images.list() for t in i.get("RepoTags") or ()], current)
    if group == "context" and verb not in ("create", "import_", "ls", "show"):
        out += _objects(lambda: ["default", *(stored.name for stored in context.contexts)], current)
    if group == "network":
        out += _objects(lambda: [n["Name"] for n in client.networks.list()], current)
    if group == "volume":
        out += _objects(lambda: [v["Name"] for v in client.volumes.list().get("Volumes") or ()], current)
    return out


def _objects(names: Callable[[], list[str]], current: str) -> list[str]:
    try:
        return [name for name in names() if name.startswith(current)]
    except errdefs.Error:
        # No engine, no candidates: completion must never print an error into the line being typed.
        return []
