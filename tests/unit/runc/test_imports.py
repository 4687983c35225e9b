"""What the runtime's processes import is part of their interface: each costs every start, and every shim's memory."""

import subprocess
import sys
from pathlib import Path

import pytest

import rorqual

SOURCE = Path(rorqual.__file__).parents[1]
# re, enum and what brings them in are 4 to 12 ms each; OpenSSL is 3 MB.
HEAVY = {"asyncio", "dataclasses", "enum", "hashlib", "inspect", "json", "platform", "re", "signal", "socket", "typing"}


@pytest.mark.parametrize("command", ["run", "lifecycle", "exec", "show", "update", "foreground"])
def test_a_command_imports_nothing_heavy(command: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import rorqual.runc.main, rorqual.runc.commands.{command}; "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())
