"""docs/compatibility.md says what the code does."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compatibility.py"


def test_the_page_is_what_the_code_would_write() -> None:
    spec = importlib.util.spec_from_file_location("compatibility", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["compatibility"] = script
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(), "run: make compatibility"
