"""Errors of templates."""

from __future__ import annotations

from rorqual import errdefs


class TemplateError(errdefs.InvalidArgument):
    """The template cannot be parsed or executed; the text is Go's, `template: name:line:col: …`.

    `partial` is what had been written by then: Go writes as it executes.
    """

    partial = ""
