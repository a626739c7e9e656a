"""A stage's description in the UI is the first paragraph of its module: what people see is what the code says."""

from __future__ import annotations


def first_paragraph(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())
