"""Scalars as Go reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.client import values


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("1k", 1024), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("2 gb", 2 << 30), ("1b", 1), ("-1", -1)],
)
def test_sizes(text: str, size: int) -> None:
    assert values.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "abc", "1x", "1kk", "--1", "1..2"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        values.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("1s", 10**9), ("1h2m3s", 3723 * 10**9), ("1.5ms", 1_500_000), ("-2us", -2000), (".5s", 5 * 10**8)],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert values.parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("1", 'time: missing unit in duration "1"'),
        ("1y", 'time: unknown unit "y" in duration "1y"'),
    ],
)
def test_bad_durations(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.parse_duration_ns(text)
    assert str(caught.value) == error


def test_cpus() -> None:
    assert values.parse_cpus("1.5") == 1_500_000_000
    assert values.parse_cpus("1/2") == 500_000_000
    with pytest.raises(ValueError, match="value is too precise"):
        values.parse_cpus("0.00000000001")
    with pytest.raises(ValueError, match="failed to parse x as a rational number"):
        values.parse_cpus("x")


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("-3", -3), ("0x1f", 31), ("010", 8), ("0o17", 15)])
def test_integers_know_gos_prefixes(text: str, number: int) -> None:
    assert values.parse_int(text) == number


def test_integers_have_bounds() -> None:
    with pytest.raises(ValueError, match="value out of range"):
        values.parse_int(str(2**63))
    with pytest.raises(ValueError, match="value out of range"):
        values.parse_uint16("65536")
    with pytest.raises(ValueError, match="invalid syntax"):
        values.parse_uint("-1")


def test_csv() -> None:
    assert values.split_csv('a,"b,""c",d') == ["a", 'b,"c', "d"]
    assert values.split_csv("") == []
    with pytest.raises(ValueError, match='bare " in non-quoted-field'):
        values.split_csv('a"b')
    with pytest.raises(ValueError, match='extraneous or missing "'):
        values.split_csv('"a')


@given(st.text(max_size=20))
def test_no_text_breaks_the_readers(text: str) -> None:
    for reader in (values.parse_bytes, values.parse_duration_ns, values.parse_int, values.parse_cpus, values.split_csv):
        try:
            reader(text)  # type: ignore[operator]
        except ValueError:
            continue


def test_quote_is_gos() -> None:
    assert values.quote('a"b\n\x00é\u200b') == '"a\\"b\\n\\x00é\\u200b"'
    assert values.quote("'", single=True) == "'\\''"
    assert values.quote("é", ascii_only=True) == '"\\u00e9"'
