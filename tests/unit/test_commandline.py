"""The daemons' flags, as Docker's daemon reads them."""

import pytest

from rorqual import commandline
from rorqual.commandline import Flag
from rorqual.daemon import config
from rorqual.errdefs import InvalidArgument

FLAGS = (
    Flag(("-H", "--host"), "list", "socket"),
    Flag(("-D", "--debug"), "bool"),
    Flag(("--level",), choices=("info", "debug")),
)


def read(*argv: str) -> dict[str, list[str]]:
    return commandline.parse("prog", "About.", FLAGS, argv)


@pytest.mark.parametrize("argv", [("--host", "a"), ("--host=a",), ("-H", "a"), ("-Ha",), ("-H=a",)], ids=" ".join)
def test_a_value_follows_in_any_of_the_ways(argv: tuple[str, ...]) -> None:
    assert read(*argv) == {"--host": ["a"]}


def test_flags_may_be_repeated_and_a_value_may_hold_an_equals_sign() -> None:
    assert read("-H", "a", "--host=b=c", "--host", "--debug") == {"--host": ["a", "b=c", "--debug"]}


def test_a_bool_takes_its_value_behind_an_equals_sign_only() -> None:
    assert read("-D", "--level", "info") == {"--debug": ["true"], "--level": ["info"]}
    assert read("--debug=false") == {"--debug": ["false"]}


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("--nope",), "unknown flag: --nope"),
        (("-x",), "unknown flag: -x"),
        (("word",), "accepts no arguments"),
        (("--host",), "flag needs an argument: --host"),
        (("--debug=maybe",), "it must be true or false"),
        (("--level=loud",), "it must be info or debug"),
    ],
)
def test_what_is_wrong_is_said(argv: tuple[str, ...], text: str) -> None:
    with pytest.raises(SystemExit, match=text):
        read(*argv)


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        read("--help")
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("Usage:  prog [OPTIONS]\n\nAbout.\n\nOptions:\n")
    assert "  -H, --host list " in said and "      --level string" in said


def test_a_bridge_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="for bip"):
        config.parse(["--config-file", "/dev/null", "--bip", "no address"])
