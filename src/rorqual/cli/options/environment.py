"""Environment variables and labels, from flags and from files.

Raises: ValueError with Docker's text.
"""

from __future__ import annotations

import os

from rorqual.cli.errors import CommandError


def parse_env(text: str) -> str:
    """`NAME=value`; a name alone takes the value of our own environment, or stays a bare name (to unset)."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not equals and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def parse_label(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def read_files(paths: list[str], given: list[str], *, from_environment: bool) -> list[str]:
    """The lines of files (label or environment syntax), then what was `given` by flag.

    A line without a value takes it from the environment, or is dropped, as Docker does it: label files drop them all.

    Raises: CommandError when a file cannot be read, ValueError for a malformed line.
    """
    out: list[str] = []
    for path in paths:
        out += _read_file(path, from_environment)
    return out + given


def _read_file(path: str, from_environment: bool) -> list[str]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except IsADirectoryError as e:
        raise _malformed(path, f"read {path}: is a directory") from e
    except OSError as e:
        raise CommandError(f"open {path}: {(e.strerror or '').lower()}") from e
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    lines: list[str] = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        try:
            line = raw.decode()
        except UnicodeDecodeError as e:
            octets = " ".join(map(str, raw))
            raise _malformed(path, f"invalid utf8 bytes at line {number}: [{octets}]") from e
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if any(c in name for c in " \t"):
            raise _malformed(path, f"variable '{name}' contains whitespaces")
        if not name:
            raise _malformed(path, f"no variable name on line '{line}'")
        if equals:
            lines.append(f"{name}={value}")
        elif from_environment and name in os.environ:
            lines.append(f"{name}={os.environ[name]}")
    return lines


def _malformed(path: str, what: str) -> CommandError:
    # Docker calls a file of labels so too.
    return CommandError(f"invalid env file ({path}): {what}")
