"""Names that become paths or database keys, checked where they enter.

Source: containerd's identifiers and digests: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
"""

import re

from rorqual.errdefs import InvalidArgument

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_IDENTIFIER_MAX = 76
_DIGEST = re.compile(r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})")
_LABEL_MAX = 4096


def check_identifier(text: str, what: str = "identifier") -> str:
    """The text itself. Raises InvalidArgument unless it is containerd's kind of identifier, at most 76 long."""
    if len(text) > _IDENTIFIER_MAX:
        raise InvalidArgument(f'{what} "{text}" greater than maximum length ({_IDENTIFIER_MAX} characters)')
    if not _IDENTIFIER.fullmatch(text):
        raise InvalidArgument(f'{what} "{text}" must match ^{_IDENTIFIER.pattern}$')
    return text


def check_digest(text: str) -> str:
    """The text itself. Raises InvalidArgument unless it is a sha256 or sha512 digest: it becomes a file name."""
    if not _DIGEST.fullmatch(text):
        raise InvalidArgument(f'invalid digest "{text}"')
    return text


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """The labels themselves. Raises InvalidArgument for a pair longer than containerd allows (4096 bytes)."""
    for key, value in labels.items():
        if len(key) + len(value) > _LABEL_MAX:
            raise InvalidArgument(f"label key and value length exceed {_LABEL_MAX} bytes, key: {key[:64]}")
    return labels
