"""Go's text/template for --format: the language whole, its values as Go prints them, its error texts.

    parse("", "{{.ID}}: {{json .Labels}}", docker.FUNCTIONS).execute(data)

Data are JSON-like Python values (dict, list, str, int, float, bool, None), `Object` for things with named fields, and
the marked values of `value`. Modules: lexer (text -> items), nodes, parser (items -> nodes), execute (nodes -> text),
builtins (Go's functions), docker (Docker's), gofmt (printf and %v), value (kinds and truth).

Source: pkg.go.dev/text/template, pkg.go.dev/fmt.
"""

from rorqual.cli.gotemplate.errors import TemplateError
from rorqual.cli.gotemplate.execute import Template
from rorqual.cli.gotemplate.parser import parse
from rorqual.cli.gotemplate.value import NilMap, NilSlice, Number, Object, Struct

__all__ = ["NilMap", "NilSlice", "Number", "Object", "Struct", "Template", "TemplateError", "parse"]
