"""The verdict: rows in, what they support out.

In: rows and the question (`bench.rows`, `bench.question`) and a session file, of our sessions or brought from
elsewhere. Out: a `Judgement`; its text, Markdown and HTML; figures, two pictures and a table for Dagster. Not here:
measuring. scipy and matplotlib are loaded when something is judged or drawn, not by this import.
"""

from .album import worst_and_best
from .judgement import Judgement
from .judging import judge, judge_rows
from .metadata import metadata
from .pictures import distribution_png, verdict_png
from .report import render_html
from .sentences import headline
from .stopping import narrow_enough
from .text import render_markdown, render_text

__all__ = [
    "Judgement",
    "distribution_png",
    "headline",
    "judge",
    "judge_rows",
    "metadata",
    "narrow_enough",
    "render_html",
    "render_markdown",
    "render_text",
    "verdict_png",
    "worst_and_best",
]
