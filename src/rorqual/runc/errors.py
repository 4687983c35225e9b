"""What can go wrong between create and exec, told apart as Docker's clients tell it: by exit code."""

from rorqual import errdefs


class StartError(errdefs.Error):
    """The container's process could not be brought to run. `exit_code` is what `docker run` ends with."""

    exit_code = 125


class ExecutableNotFound(StartError):
    """No such file, in $PATH or at the path given."""

    exit_code = 127


class ExecutablePermission(StartError):
    """There, and not for this user to execute: permission denied, or a directory."""

    exit_code = 126


BY_NAME: dict[str, type[StartError]] = {c.__name__: c for c in (StartError, ExecutableNotFound, ExecutablePermission)}


class Refusal(Exception):
    """Raised inside a container's child: text and kind go to the parent, which raises the error of that kind."""

    def __init__(self, text: str, kind: type[StartError] = StartError) -> None:
        super().__init__(text)
        self.kind = kind


def reason(error: OSError) -> str:
    """The error's cause as Go programs print it, which Docker's clients match on: `no such file or directory`."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
