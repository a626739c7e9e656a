"""Asking: the same photos of several models, one request at a time, rows written as they are made.

In: a question, photos, a plan, and something that answers (`Engine`, a protocol that `tasks` joins to `engine`).
Out: a session folder with rows and session.json, for `verdict`. Not here: serving models, the lease, statistics.

    question = Question.load(catalog.benchmark.question)        before the lease
    with prepare(source, count, seed, say) as photos:
        comparison = Comparison(arms, question, photos, mirrored_plan(...), ...)
        outcome = begin(results, comparison, say)
        outcome = run(outcome.folder, comparison, engine, holding, say)      under the lease
        finish(outcome, lease_seconds, tenants, say)                         after it
"""

from .asking import Ask, Engine
from .photos import PhotoSet, prepare
from .plan import Plan, mirrored_plan
from .question import Question, QuestionError
from .record import Arm, Comparison, RecordError
from .rows import Row, RowsError, read_rows
from .session import Outcome, begin, begin_all, find_unfinished, finish, run, standing
from .sources import Folder, ImmichAlbum, PhotosError, Source, find_photos
from .turns import Clock, Holding, SessionLimits

__all__ = [
    "Arm",
    "Ask",
    "Clock",
    "Comparison",
    "Engine",
    "Folder",
    "Holding",
    "ImmichAlbum",
    "Outcome",
    "PhotoSet",
    "PhotosError",
    "Plan",
    "Question",
    "QuestionError",
    "RecordError",
    "Row",
    "RowsError",
    "SessionLimits",
    "Source",
    "begin",
    "begin_all",
    "find_photos",
    "find_unfinished",
    "finish",
    "mirrored_plan",
    "prepare",
    "read_rows",
    "run",
    "standing",
]
