"""The verdict: rows in, what they support out.

In: rows and the question (`bench.rows`, `bench.question`) and a session file, of our sessions or brought from
elsewhere. Out: a `Judgement`, its text, Markdown, HTML and figures for Dagster. Not here: measuring.
"""

from .judgement import Judgement
from .judging import judge

__all__ = ["Judgement", "judge"]
