"""Containers by either of the two commands that make them: `run`, or `create` and then `start`."""

from support.engine import Cli, Result

VERBS = ("run", "create")


def both(*flags: str) -> tuple[str, ...]:
    """The rows of `run` and `create` with these flags, and the commands themselves, for `covers`."""
    return tuple(f"{verb} --{flag}" for verb in VERBS for flag in flags)


def started(cli: Cli, verb: str, name: str, *flags: str, command: tuple[str, ...] = ("sleep", "600")) -> str:
    """A container in the background; its id."""
    if verb == "run":
        return cli.out("run", "-d", "--name", name, *flags, "busybox", *command)
    container = cli.out("create", "--name", name, *flags, "busybox", *command)
    cli("start", name)
    return container


def shell(cli: Cli, verb: str, script: str, *flags: str, code: int | None = 0) -> Result:
    """What a script printed in a container that is gone afterwards."""
    if verb == "run":
        return cli("run", "--rm", *flags, "busybox", "sh", "-c", script, code=code)
    created = cli("create", *flags, "busybox", "sh", "-c", script, code=None)
    if created.code:
        assert code in (None, created.code), created
        return created
    container = created.out.strip()
    result = cli("start", "-a", container, code=code)
    cli("rm", "-f", "-v", container)
    return result
