"""Go's text/template and fmt. Expected texts are Go's own (compared with the stock command line)."""

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rorqual.cli.gotemplate import NilMap, NilSlice, Number, Object, Struct, TemplateError, parse
from rorqual.cli.gotemplate.docker import FUNCTIONS, HEADER_FUNCTIONS, to_json
from rorqual.cli.gotemplate.gofmt import show, sprintf
from rorqual.cli.gotemplate.structs import members, struct

DATA: dict[str, Any] = {
    "S": "hello",
    "N": 3,
    "F": 1.5,
    "T": True,
    "Nil": None,
    "L": [1, 2, 3],
    "M": {"b": "2", "a": "1"},
    "Deep": {"er": {"est": "x"}},
}


def run(text: str, data: Any = DATA, **options: bool) -> str:
    return parse("", text, FUNCTIONS).execute(data, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.S}} {{.N}} {{.F}} {{.T}} {{.Nil}} {{.Nope}}", "hello 3 1.5 true <nil> <no value>"),
        ("{{.L}} {{.M}} {{.Deep}}", "[1 2 3] map[a:1 b:2] map[er:map[est:x]]"),
        ("{{.Deep.er.est}}{{(.Deep).er.est}}{{$.S}}", "xxhello"),
        ("{{range $i, $e := .L}}{{if $i}},{{end}}{{$e}}{{end}}", "1,2,3"),
        ("{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .Nil}}x{{else}}none{{end}}{{range 3}}{{.}}{{end}}", "none012"),
        ("{{range .L}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{if eq . 3}}{{break}}{{end}}{{end}}", "13"),
        ("{{if .Nope}}a{{else if .S}}b{{else}}c{{end}}", "b"),
        ("{{with .S}}{{.}}{{end}}{{with .Nope}}x{{else with .N}}{{.}}{{end}}", "hello3"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ('{{define "t"}}<{{.}}>{{end}}{{template "t" .S}}{{block "b" .N}}[{{.}}]{{end}}', "<hello>[3]"),
        ("a {{- 1 -}} b{{/* c */}}", "a1b"),
        ("{{\"q\\t\\u00e9\"}}{{`r\\n`}}{{'a'}}{{0x10}}{{1e3}}", "q\té" + "r\\n" + "97161000"),
        ("{{len .S}} {{len .L}} {{index .L 1}} {{index .M `a`}} {{slice .S 1 3}}", "5 3 2 1 el"),
        ("{{and 1 0}} {{or 0 2}} {{not 0}} {{and .Nope .Nope.x}}", "0 2 true <no value>"),
        ("{{eq .N 1 3}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 2}}", "true true true true false true"),
        ("{{.S | upper | printf `%s!`}}{{title `a b`}}{{pad `x` 1 2}}{{truncate `abc` 2}}", "HELLO!A B x  ab"),
        ("{{json .M}}{{join .L `-`}}{{split `a,b` `,`}}{{lower `AB`}}", '{"a":"1","b":"2"}1-2-3[a b]ab'),
        (
            "{{html `<a>`}}{{js `'`}}{{urlquery `a b&`}}{{println 1 `x`}}{{print 1 2 `x`}}",
            "&lt;a&gt;\\'a+b%261 x\n1 2x",
        ),
        ("{{.S|}}", "hello"),
    ],
)
def test_templates(text: str, expected: str) -> None:
    assert run(text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{{.Foo", "template: :1: unclosed action"),
        ("{{foo}}", 'template: :1: function "foo" not defined'),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if .S}}", "template: :1: unexpected EOF"),
        ("{{if}}x{{end}}", "template: :1: missing value for if"),
        ('{{"abc}}', "template: :1: unterminated quoted string"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        ("{{1 | 2}}", "template: :1: non executable command in pipeline stage 2"),
        ("{{?}}", 'template: :1: unexpected "?" in command'),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ("{{(1}}", "template: :1: unclosed left paren"),
        ("\n{{nope}}", 'template: :2: function "nope" not defined'),
        ("{{.S.x}}", "template: :1:4: executing \"\" at <.S.x>: can't evaluate field x in type string"),
        ("{{len 3}}", 'template: :1:2: executing "" at <len 3>: error calling len: len of type int'),
        ("{{upper 3}}", 'template: :1:8: executing "" at <3>: expected string; found 3'),
        ("{{.S 1}}", 'template: :1:2: executing "" at <.S>: S is not a method but has arguments'),
        ('{{template "x"}}', 'template: :1:11: executing "" at <{{template "x"}}>: template "x" not defined'),
        ('{{eq 1 "a"}}', 'template: :1:2: executing "" at <eq 1 "a">: error calling eq: '
         "incompatible types for comparison"),
        ("{{index .S 9}}", 'template: :1:2: executing "" at <index .S 9>: error calling index: index out of range: 9'),
        ("{{index .S 5}}", 'template: :1:2: executing "" at <index .S 5>: error calling index: '
         "reflect: string index out of range"),
        ("{{index .L 3}}", 'template: :1:2: executing "" at <index .L 3>: error calling index: '
         "reflect: slice index out of range"),
        ("{{call .S}}", 'template: :1:2: executing "" at <call .S>: error calling call: '
         "non-function .S of type string"),
        ("{{range $i, $v := .S}}{{end}}", "template: :1:18: executing \"\" at <.S>: range can't iterate over hello"),
    ],
)  # fmt: skip
def test_errors_are_gos(text: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        run(text)
    assert str(caught.value) == error


def test_an_error_tells_what_was_written_before_it() -> None:
    with pytest.raises(TemplateError) as caught:
        run("{{.S}} and {{len 3}}")
    assert caught.value.partial == "hello and "


def test_members_that_are_structs_to_go() -> None:
    shown = members({"Plugins": {"Volume": ["local"], "Log": None}, "Labels": {"b": "1", "a": "2"}}, {"Plugins": "t.P"})
    whole = struct("t.T", shown)
    assert run("{{.Plugins}} {{json .Plugins}} {{.Labels}}", whole) == (
        '{[local] []} {"Volume":["local"],"Log":null} map[a:2 b:1]'
    )
    with pytest.raises(TemplateError, match=r"can't evaluate field Nope in type t\.P"):
        run("{{.Plugins.Nope}}", whole)


def test_missing_keys_can_be_errors() -> None:
    with pytest.raises(TemplateError) as caught:
        run("{{.Deep.Nope}}", missing_key_error=True)
    assert str(caught.value) == ('template: :1:7: executing "" at <.Deep.Nope>: map has no entry for key "Nope"')


def test_objects_have_methods_and_refuse_what_they_have_not() -> None:
    fields = {"ID": "x", "Label": lambda name: f"<{name}>"}
    thing = Object("*t.T", fields.__getitem__, ("ID",))
    assert run("{{.ID}}{{.Label `a`}}{{json .}}", thing) == 'x<a>{"ID":"x"}'
    with pytest.raises(TemplateError, match=r"can't evaluate field Foo in type \*t\.T"):
        run("{{.Foo}}", thing)


def test_marked_values() -> None:
    struct = Struct([("a", 1), ("b", None)])
    struct.omitted = {"c": None}
    data = {"s": struct, "m": NilMap(), "l": NilSlice(), "n": Number("1.50")}
    assert run("{{.s}} {{.m}} {{.l}} {{.n}} {{.s.c}}", data) == "{1 <nil> <nil>} map[] [] 1.50 <nil>"
    assert to_json(data) == '{"l":null,"m":null,"n":1.50,"s":{"a":1,"b":null}}'


def test_headers_keep_their_text() -> None:
    assert parse("", "{{upper .ID}}{{truncate .ID 1}}", HEADER_FUNCTIONS).execute({"ID": "Id"}) == "IdId"


@pytest.mark.parametrize(
    ("format", "args", "expected"),
    [
        ("%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%#x", (42,) * 9, "   42|42   |00042|+42|2a|2A|52|101010|0x2a"),
        ("%s|%10s|%-4s|%.2s|%q|%x", ("abc",) * 6, 'abc|       abc|abc |ab|"abc"|616263'),
        ("%v %t %T %c %U %q", (None, True, "", 65, 65, 65), "<nil> true string A U+0041 'A'"),
        ("%f %.2f %e %g %8.3f", (1.5,) * 5, "1.500000 1.50 1.500000e+00 1.5    1.500"),
        ("%d %s", ("x", 1), "%!d(string=x) %!s(int=1)"),
        ("%s", (), "%!s(MISSING)"),
        ("a", (1, "b"), "a%!(EXTRA int=1, string=b)"),
        ("%", (), "%!(NOVERB)"),
        ("%*d|%-*d|", (4, 1, 4, 1), "   1|1   |"),
        ("100%%", (), "100%"),
        ("%v %s", ({"a": 1}, ["x", "y"]), "map[a:1] [x y]"),
    ],
)
def test_printf(format: str, args: tuple[Any, ...], expected: str) -> None:
    assert sprintf(format, args) == expected


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (1e21, "1e+21"), (1e20, "100000000000000000000"), (1e-5, "1e-05"), (0.1, "0.1")]
)
def test_floats(value: float, text: str) -> None:
    assert show(value) == text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "{{",
                "}}",
                ".S",
                ".L",
                " ",
                "|",
                "if ",
                "end",
                "range ",
                "else",
                "with ",
                "$x",
                ":=",
                "(",
                ")",
                "1",
                '"a"',
                "printf",
                "len",
                "-",
                "x",
                ",",
                "define ",
                "/*",
                "*/",
                "\n",
                "'",
            ]
        ),
        max_size=14,
    )
)
def test_any_template_runs_or_is_refused(pieces: list[str]) -> None:
    try:
        run("".join(pieces))
    except TemplateError:
        return


@given(st.text(alphabet=string.printable.replace("{", ""), max_size=60))
def test_text_without_actions_is_itself(text: str) -> None:
    assert run(text) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_is_json(value: Any) -> None:
    import json

    assert json.loads(to_json(value)) == value


def test_deep_nesting_is_refused_not_fatal() -> None:
    with pytest.raises(TemplateError):
        run("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}")
    with pytest.raises(TemplateError):
        run("{{if 1}}" * 5000)
