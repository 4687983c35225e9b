"""pflag's grammar and error texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.cli.errors import FlagError, HelpWanted
from rorqual.cli.flags import FlagSet, usages

FLAGS = (
    ("all", "a", "bool", False, "All"),
    ("interactive", "i", "bool", False, "Interactive"),
    ("tty", "t", "bool", False, "Terminal"),
    ("env", "e", "list", (), "Environment"),
    ("name", "n", "string", "", "Name"),
    ("count", "", "int", -1, "Count (default -1)"),
    ("platform", "", "strings", (), "Platforms"),
)


def parse(*args: str, interspersed: bool = True):  # type: ignore[no-untyped-def]
    return FlagSet(FLAGS, interspersed=interspersed, renamed={"label": "name"}).parse(args)


def test_every_spelling_of_a_value() -> None:
    for args in (["--name=x"], ["--name", "x"], ["-n", "x"], ["-nx"], ["-n=x"], ["-an", "x"], ["-anx"], ["--label=x"]):
        values, rest = parse(*args)
        assert values.string("name") == "x"
        assert rest == []


def test_bundles_booleans_and_repetition() -> None:
    values, rest = parse("-it", "-e", "A=1", "-eB=2", "--all=false", "-", "x")
    assert values.boolean("interactive") and values.boolean("tty") and not values.boolean("all")
    assert values.changed("all") and not values.changed("name")
    assert values.many("env") == ["A=1", "B=2"]
    assert rest == ["-", "x"]


def test_flags_end_at_two_dashes_and_at_the_first_argument_of_run() -> None:
    assert parse("-a", "--", "-i")[1] == ["-i"]
    values, rest = parse("-a", "image", "-i", "--", "x", interspersed=False)
    assert rest == ["image", "-i", "--", "x"]
    assert not values.boolean("interactive")
    assert parse("image", "-i")[0].boolean("interactive")


def test_csv_lists_are_split() -> None:
    assert parse("--platform", "a,b", "--platform=c")[0].many("platform") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ax"], "unknown shorthand flag: 'x' in -ax"),
        (["--name"], "flag needs an argument: --name"),
        (["-n"], "flag needs an argument: 'n' in -n"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---"], "bad flag syntax: ---"),
        (
            ["-t=maybe"],
            'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["--count=x"], 'invalid argument "x" for "--count" flag: strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
def test_errors_have_pflags_words(args: list[str], text: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(*args)
    assert str(caught.value) == text


def test_help_is_asked_for_by_its_name_and_a_free_letter() -> None:
    for flag in ("--help", "-h"):
        with pytest.raises(HelpWanted):
            parse(flag)


@given(st.lists(st.text(alphabet="-=aienx", max_size=5), max_size=6))
def test_any_command_line_parses_or_is_refused(args: list[str]) -> None:
    try:
        parse(*args)
    except (FlagError, HelpWanted):
        return


def test_help_is_wrapped_and_sorted() -> None:
    text = usages(FLAGS, 80)
    assert text.splitlines()[0] == "  -a, --all                All"
    assert [line.split("--")[1].split()[0] for line in text.splitlines() if "--" in line] == sorted(f[0] for f in FLAGS)
