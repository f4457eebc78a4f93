"""Text for a terminal, with names of files that others chose."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return a text with its control characters, and bytes that are no text, written as escapes.

    A name may hold the sequences by which a terminal changes its title, its colors, or what was
    written before; line breaks and tabs stay.

    Example:
        >>> printable("a\x1b[2J.png")
        'a\\x1b[2J.png'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
