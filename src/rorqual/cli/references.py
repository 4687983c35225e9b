"""Image references as commands need them. `rorqual.oci.reference` is imported only when one is really parsed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.oci.reference import Reference


def parse(text: str) -> Reference:
    """Raises: InvalidArgument with Docker's texts."""
    from rorqual.oci import reference

    return reference.parse(text)


def split_reference(text: str) -> tuple[str, str]:
    """(familiar name, tag or digest or "") of a reference.

    Raises: InvalidArgument.
    """
    ref = parse(text)
    return ref.familiar_name, ref.tag or (str(ref.digest) if ref.digest else "")


def familiar_with_tag(text: str) -> str:
    """`text` as Docker shows it, with :latest when it has neither tag nor digest; `text` itself when it is an id."""
    from rorqual import errdefs

    try:
        return parse(text).with_default_tag().familiar
    except errdefs.InvalidArgument:
        return text
