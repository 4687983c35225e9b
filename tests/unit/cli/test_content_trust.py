"""DOCKER_CONTENT_TRUST: who asks for a check that is not made is told so, before anything is pulled or pushed."""

import pytest

from rorqual.cli.commands.image import pull, push
from rorqual.cli.commands.image.trust import refuse_content_trust
from rorqual.cli.errors import CommandError


class Flags:
    """`--disable-content-trust` as given on the command line, None when it was not."""

    def __init__(self, given: bool | None) -> None:
        self._given = given

    def changed(self, name: str) -> bool:
        assert name == "disable-content-trust"
        return self._given is not None

    def boolean(self, name: str) -> bool:
        return True if self._given is None else self._given


@pytest.mark.parametrize(
    ("variable", "given", "refused"),
    [
        ("", None, False),
        ("0", None, False),
        ("1", None, True),
        ("true", None, True),
        ("1", True, False),
        ("", False, True),
    ],
)
def test_asking_for_trust_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: bool | None, refused: bool
) -> None:
    monkeypatch.setenv("DOCKER_CONTENT_TRUST", variable)
    flags = Flags(given)
    if refused:
        with pytest.raises(CommandError, match="content trust is not supported"):
            refuse_content_trust(flags)  # type: ignore[arg-type]
    else:
        refuse_content_trust(flags)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [pull, push])
def test_pull_and_push_ask_first(monkeypatch: pytest.MonkeyPatch, command: object) -> None:
    monkeypatch.setenv("DOCKER_CONTENT_TRUST", "1")
    with pytest.raises(CommandError, match="content trust"):
        command.run(None, Flags(None), ["image"])  # type: ignore[attr-defined]
