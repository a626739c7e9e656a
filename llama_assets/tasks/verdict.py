"""Task `verdict`, and what every judged session turns into: figures that plot, a report file, text.

Reads a session folder and writes the report beside its rows. Not here: the statistics and the sentences (`verdict`).
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets.tasks.messages import ArmResult, Judge, Judged, VerdictResult

if TYPE_CHECKING:
    from llama_assets.tasks.work import Work
    from llama_assets.verdict import Judgement

REPORT = "report.html"


class NoSession(RuntimeError):
    """There is nothing to judge yet."""

    exit_status = 1

    def __init__(self, results: Path, question: str = "") -> None:
        of = f" of question {question}" if question else ""
        super().__init__(f"no finished session{of} in {results / 'sessions'}; materialize benchmark/* first")


@dataclass(frozen=True)
class JudgedSession:
    """A session's figures: per arm, and the verdict over them; `judgement` is where they are from."""

    arms: dict[str, ArmResult]
    verdict: VerdictResult
    judgement: Judgement


def verdict_task(work: Work) -> Judged:
    """Judge the newest finished session of a question again. Raises NoSession."""
    request = Judge.model_validate(work.task.request)
    folder = newest_session(work.platform.results, request.question_name)
    work.say(f"judging session {folder.name}")
    return Judged(session=str(folder), verdict=judged_session(folder).verdict)


def newest_session(results: Path, question: str = "") -> Path:
    """The newest session that is finished, of the question that every catalog has or of a further one by its name.

    Raises:
        NoSession: there is none.
    """
    from llama_assets.bench.record import newest_first

    for record in newest_first(results):
        if record.finished and record.question_name == question:
            return record.folder
    raise NoSession(results, question)


def judged_session(folder: Path) -> JudgedSession:
    """Judge a session, write its report and judgement beside the rows and the history of all, and give its figures."""
    from llama_assets.tasks.history import store, write_history
    from llama_assets.verdict import (
        distribution_png,
        headline,
        judge,
        metadata,
        render_html,
        render_markdown,
        render_text,
        verdict_png,
        worst_and_best,
    )

    judgement = judge(folder)
    report = write_whole(render_html(judgement, folder), folder / REPORT)
    store(judgement, folder)
    if folder.parent.name == "sessions":
        write_history(folder.parent.parent)
    arms = {
        model: ArmResult(
            figures=metadata(judgement, model),
            fingerprint=found.fingerprint,
            photos=tuple(worst_and_best(judgement, model)),
            picture_png=_base64(distribution_png(judgement, model)),
        )
        for model, found in judgement.models.items()
    }
    recommended = judgement.recommendation
    verdict = VerdictResult(
        figures=metadata(judgement),
        verdict=headline(judgement),
        recommendation=recommended.model if recommended else None,
        text=render_text(judgement),
        markdown=render_markdown(judgement),
        report=str(report),
        picture_png=_base64(verdict_png(judgement)),
    )
    return JudgedSession(arms, verdict, judgement)


def write_report(folder: Path, photos: bool = True, output: Path | None = None) -> Path:
    """The one-file HTML report of a session, by rename. Beside its rows unless `output` says where."""
    from llama_assets.verdict import judge, render_html

    return write_whole(render_html(judge(folder), folder, photos=photos), output or folder / REPORT)


def write_whole(page: str, path: Path) -> Path:
    """Write a text file by rename: readers see the old one or the new one."""
    path = path.absolute()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # two pods may have one process id
    beside.write_text(page, encoding="utf-8")
    beside.replace(path)
    return path


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")
