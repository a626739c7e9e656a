"""Every judged session of a results folder on one page: what is stored of each, and the page per question and model.

Here: the stored shape (`stored`, `read`), what stands where, what may be joined by a line. A figure of one session is
never compared with another session's: the only comparisons shown are those that each session made within itself, with
their intervals. Not here: finding the folders (`tasks.history`), the drawing (`history_chart`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, get_args
from urllib.parse import quote

from . import charts, formats, history_chart
from .judgement import Judgement, Rate
from .report import TEMPLATES, template
from .statistics import Word

VERSION = 1  # of the stored shape: what has another one is judged again
SHOWN = 20  # sessions of a model's table; older ones are folded


@dataclass(frozen=True)
class Against:
    """A model against that session's incumbent on one metric, as the session judged it; the interval is the one that
    the word was read from."""

    word: Word
    estimate: float | None
    low: float | None
    high: float | None
    level: float
    note: str | None


@dataclass(frozen=True)
class Measured:
    """One model in one session."""

    p50_s: float | None
    p95_s: float | None
    rows: int
    valid: Rate
    fingerprint: str | None
    engine: str | None
    seconds: Against | None
    valid_answers: Against | None


@dataclass(frozen=True)
class Past:
    """One judged session. `folder` is its name under `sessions/`; `report` says whether its page is there."""

    folder: str
    at: datetime
    question_name: str
    question_hash: str | None
    photo_set_hash: str | None
    incumbent: str
    models: Mapping[str, Measured]
    recommendation: str | None
    warnings: int
    stops: int
    report: bool


@dataclass(frozen=True)
class LeftOut:
    """A session that the page cannot show, and why."""

    folder: str
    reason: str


def about(raw: Mapping[str, Any]) -> dict[str, str | None]:
    """What session.json says that a history needs; what is stored is out of date when this differs."""
    question, photos = raw.get("question"), raw.get("photo_set")
    return {
        "session": _text(raw.get("id")) or _text(raw.get("session")),
        "started": _text(raw.get("started")),
        "finished": _text(raw.get("finished")),
        "question_name": _text(raw.get("question_name")),
        "question_hash": _text(question.get("hash")) if isinstance(question, Mapping) else None,
        "photo_set_hash": _text(photos.get("hash")) if isinstance(photos, Mapping) else None,
        "incumbent": _text(raw.get("incumbent")),
    }


def stored(j: Judgement) -> dict[str, Any]:
    """JSON of a judgement for later histories: `version`, `about` and `judgement` (as `judge --json`)."""
    raw = j.evidence.facts.raw if j.evidence.facts else {}
    return {"version": VERSION, "about": about(raw), "judgement": j.to_json()}


def read(values: Mapping[str, Any], folder: str, report: bool) -> Past:
    """What `stored` wrote.

    Raises:
        ValueError: it is of another shape or version, or does not say when the session began.
    """
    try:
        if values["version"] != VERSION:
            raise ValueError(f"it has version {values['version']} of its shape, not {VERSION}")
        told, judged = values["about"], values["judgement"]
        recommended = judged["recommendation"]
        return Past(
            folder=folder,
            at=_time(told["started"]),
            question_name=told["question_name"] or "",
            question_hash=told["question_hash"],
            photo_set_hash=told["photo_set_hash"],
            incumbent=str(judged["incumbent"]),
            models={model: _measured(judged, model) for model in judged["models"]},
            recommendation=str(recommended["model"]) if recommended else None,
            warnings=len(judged["warnings"]),
            stops=sum(warned["effect"] == "no_recommendation" for warned in judged["warnings"]),
            report=report,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is of another shape: {error!r}") from None


def _measured(judged: Mapping[str, Any], model: str) -> Measured:
    figures = judged["models"][model]
    return Measured(
        p50_s=_number(figures["latency_p50_s"]),
        p95_s=_number(figures["latency_p95_s"]),
        rows=int(figures["rows"]),
        valid=Rate(**figures["schema_valid"]),
        fingerprint=_text(figures["fingerprint"]),
        engine=_text(figures["engine"]),
        seconds=_against(judged, model, "seconds"),
        valid_answers=_against(judged, model, "valid_answers"),
    )


def _against(judged: Mapping[str, Any], model: str, metric: str) -> Against | None:
    for pair in judged["pairs"]:
        if (pair["b"], pair["metric"]) == (model, metric):
            if pair["verdict"] not in get_args(Word):
                raise ValueError(f"{pair['verdict']!r} is no word of a verdict")
            ends, level = ("low", "high"), float(pair["level"])
            if pair["verdict"] == "equivalent":  # the interval that this word is read from
                ends, level = ("low_90", "high_90"), 0.9
            low, high = (_number(pair[end]) for end in ends)
            return Against(pair["verdict"], _number(pair["estimate"]), low, high, level, pair["note"])
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _time(text: str | None) -> datetime:
    if not text:
        raise ValueError("session.json does not say when the session began")
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# --- the page -------------------------------------------------------------------------------------------------------
def render_history(sessions: Sequence[Past], left_out: Sequence[LeftOut] = ()) -> str:
    """The page of all sessions, one HTML file without script; links are relative to the results folder."""
    ordered = sorted(sessions, key=lambda past: (past.at, past.folder))
    names = sorted({past.question_name for past in ordered})
    groups = [_group(name, [p for p in ordered if p.question_name == name], place) for place, name in enumerate(names)]
    models = list(dict.fromkeys(model for past in ordered for model in past.models))
    return template("history.html.j2").render(
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        count=formats.plural(len(ordered), "session"),
        model_count=formats.plural(len(models), "model"),
        newest=ordered[-1] if ordered else None,
        newest_day=day(ordered[-1].at) if ordered else "",
        newest_link=link(ordered[-1]) if ordered else None,
        groups=groups,
        headed=any(names),
        left_out=left_out,
        names=models,
    )


def day(at: datetime) -> str:
    """`14 Nov 2026, 02:15`, in UTC."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %Y, %H:%M}"


def link(past: Past) -> str | None:
    """The session's report, seen from the results folder; None where there is none."""
    return f"sessions/{quote(past.folder)}/report.html" if past.report else None


def changes(before: Past, after: Past, model: str) -> list[history_chart.Change]:
    """What is another one since the model's session before; a value that is not known may have changed too."""
    old, new = before.models[model], after.models[model]
    compared = (
        ("file", old.fingerprint, new.fingerprint),
        ("engine", old.engine, new.engine),
        ("question", before.question_hash, after.question_hash),
        ("photos", before.photo_set_hash, after.photo_set_hash),
    )
    return [
        history_chart.Change(what, was is not None and now is not None)
        for what, was, now in compared
        if was is None or was != now
    ]


def _group(name: str, sessions: Sequence[Past], place: int) -> dict[str, Any]:
    models = list(dict.fromkeys(model for past in reversed(sessions) for model in past.models))
    models.sort(key=lambda model: model != sessions[-1].incumbent)
    made = [
        _model(model, [past for past in sessions if model in past.models], charts.look(index), f"{place}-{index}")
        for index, model in enumerate(models)
    ]
    return {"name": name, "models": made, "sessions": formats.plural(len(sessions), "session")}


def _model(model: str, sessions: Sequence[Past], arm: int, anchor: str) -> dict[str, Any]:
    borders = [[], *(changes(before, after, model) for before, after in pairwise(sessions))]
    points = [
        history_chart.Point(past.at, past.models[model].p50_s, past.models[model].p95_s, tuple(border))
        for past, border in zip(sessions, borders, strict=True)
    ]
    rows = [_row(past, model, border) for past, border in zip(sessions, borders, strict=True)][::-1]
    return {
        "model": model,
        "anchor": anchor,
        "look": arm,
        "figure": history_chart.p50(model, points, arm)
        if len(points) > 1
        else None,  # one mark tells less than its row
        "answered": any(point.p50_s is not None for point in points),
        "rows": rows[:SHOWN],
        "older": rows[SHOWN:],
        "parts": 1 + sum(history_chart.apart(border) for border in borders),
    }


def _row(past: Past, model: str, border: Sequence[history_chart.Change]) -> dict[str, Any]:
    m = past.models[model]
    return {
        "day": day(past.at),
        "folder": past.folder,
        "link": link(past),
        "p50": "not known" if m.p50_s is None else f"{formats.seconds(m.p50_s)} s",
        "p95": "" if m.p95_s is None else f"p95 {formats.seconds(m.p95_s)} s",
        "seconds": _judged(past, model, m.seconds, seconds=True),
        "valid": _rate(m.valid, m.rows),
        "valid_answers": _judged(past, model, m.valid_answers, seconds=False),
        "recommendation": past.recommendation or "none",
        "warnings": _warnings(past),
        "changes": "; ".join(change.text for change in border),
        "apart": history_chart.apart(border),
    }


def _warnings(past: Past) -> str:
    if not past.warnings:
        return "no warnings"
    told = formats.plural(past.warnings, "warning")
    return f"{told}, {past.stops} of them {'stops' if past.stops == 1 else 'stop'} it" if past.stops else told


def _judged(past: Past, model: str, found: Against | None, seconds: bool) -> dict[str, str | None]:
    if model == past.incumbent:
        return {"word": None, "text": "the incumbent", "interval": ""}
    if found is None:
        return {"word": None, "text": "not compared", "interval": ""}
    note = f"; {found.note}" if found.note else ""
    if found.estimate is None or found.low is None or found.high is None:
        return {"word": found.word, "text": "not known", "interval": f"against {past.incumbent}{note}"}
    run = formats.span(found.low, found.high) if seconds else _points(found.low, found.high)
    text = f"{formats.change(found.estimate)} %" if seconds else formats.points(found.estimate)
    interval = f"{formats.level(found.level)} %: {run}, against {past.incumbent}{note}"
    return {"word": found.word, "text": _kept(text), "interval": _kept(interval)}


def _kept(text: str) -> str:
    """No line of a narrow column begins with a unit."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _points(low: float, high: float) -> str:
    return f"{formats.signed_points(low)} to {formats.signed_points(high)}"


def _rate(found: Rate, rows: int) -> tuple[str, str]:
    if found.count is None or found.rate is None or found.low is None or found.high is None:
        return "not known", ""
    run = f"95 % Wilson {formats.rate(found.low)} to {formats.rate(found.high)} %"
    return _kept(f"{formats.rate(found.rate)} %"), _kept(f"{found.count} of {rows}; {run}")
