"""Finding the executable as the user will be able to run it, inside the rootfs and as that user.

The texts are those of Go's os/exec, on which Docker's clients and tests match.
"""

import os
import stat

from rorqual.runc.errors import ExecutableNotFound, ExecutablePermission, Refusal, reason


def find(name: str, search_path: str | None) -> str:
    """The path to exec. Raises: Refusal of kind ExecutableNotFound or ExecutablePermission."""
    if not name:
        raise Refusal('exec: "": executable file not found in $PATH', ExecutableNotFound)
    if "/" in name:
        _check(name)
        return name
    denied: Refusal | None = None
    for directory in (search_path or "").split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            _check(candidate, name)
            return candidate
        except Refusal as e:
            if e.kind is ExecutablePermission and denied is None:
                denied = e
    # As exec.LookPath: a file that is there and not executable doesn't end the search, nor change its answer.
    raise Refusal(f'exec: "{name}": executable file not found in $PATH', ExecutableNotFound) from denied


def _check(path: str, shown: str | None = None) -> None:
    shown = shown or path
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as e:
        kind = ExecutableNotFound if isinstance(e, FileNotFoundError) else ExecutablePermission
        raise Refusal(f'exec: "{shown}": stat {path}: {reason(e)}', kind) from e
    except OSError as e:
        raise Refusal(f'exec: "{shown}": stat {path}: {reason(e)}', ExecutablePermission) from e
    if stat.S_ISDIR(mode):
        raise Refusal(f'exec: "{shown}": is a directory', ExecutablePermission)
    if not mode & 0o111 or not _may_execute(path):
        raise Refusal(f'exec: "{shown}": permission denied', ExecutablePermission)


def _may_execute(path: str) -> bool:
    """access(2) first: real and effective IDs are the same here, and every seccomp profile knows that call. It forgets
    capabilities of ordinary users, which faccessat2(2) with AT_EACCESS counts; but profiles of old deny that one."""
    return os.access(path, os.X_OK) or os.access(path, os.X_OK, effective_ids=True)
