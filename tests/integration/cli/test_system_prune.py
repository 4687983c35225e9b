"""`system prune` with both command lines: what is unused goes, what is used stays."""

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


def test_everything_unused_goes(fresh_cli: Cli, fresh_engine: Engine) -> None:
    cli, engine = fresh_cli, fresh_engine
    cli("run", "-d", "--name", "used", "-v", "used:/v", "busybox", "sleep", "1000")
    cli("run", "--name", "ended", "busybox", "true")
    cli("volume", "create", "kept")
    cli("run", "--rm", "-v", "/anonymous", "--name", "short", "busybox", "true")
    cli("network", "create", "unused")
    done = cli("system", "prune", "--force", "--all", "--volumes")
    assert "Total reclaimed space:" in done.out and "ended" not in cli.out("ps", "-a", "--format", "{{.Names}}")
    assert cli.out("ps", "--format", "{{.Names}}") == "used"
    assert "unused" not in cli.out("network", "ls", "--format", "{{.Name}}").split()
    assert cli.out("volume", "ls", "-q").split() == ["kept", "used"]  # named volumes go with `volume prune --all`
    assert cli.out("images", "--format", "{{.Repository}}") == "busybox"
    cli("rm", "-f", "used")
    cli("volume", "prune", "--force", "--all")
    cli("system", "prune", "--force", "--all", "--volumes")
    assert not cli.out("images", "-q") and not cli.out("volume", "ls", "-q")
    blobs = engine.data / "content" / "blobs" / "sha256"
    wait_for(lambda: not list(blobs.iterdir()), "no blob is left")


def test_what_a_negative_label_names_is_kept(cli: Cli) -> None:
    for name, flags in (("kept", ("--label", "keep=1")), ("other", ("--label", "keep=0"))):
        cli("create", "--name", name, *flags, "busybox", "true")
        cli("network", "create", *flags, name)
    for kind in ("container", "network"):
        cli(kind, "prune", "--force", "--filter", "label!=keep=1")
    assert cli.out("ps", "-a", "--format", "{{.Names}}") == "kept"
    assert cli.out("network", "ls", "--filter", "label=keep", "--format", "{{.Name}}") == "kept"
    cli("network", "rm", "kept")
