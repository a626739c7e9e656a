"""The report: one HTML file, without script or network, that answers first and shows why.

The order is the same in every report: verdict, against the incumbent, warnings, what could not be judged, then the
evidence, what was fixed, how to repeat it. Here: what stands where. Not here: sentences, figures, photos (`album`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from . import charts, formats, headings, lending, sentences, timeline, truth_chart
from .album import disagreements
from .judgement import Judgement, ModelFigures, Pair
from .warning_texts import by_kind, effect_text

TEMPLATES = Path(__file__).with_name("templates")
LONGEST_FACT = 160
TOLD_ELSEWHERE = frozenset(  # of session.json, or of no use to whoever wants the same again
    {"id", "session", "incumbent", "started", "ended", "ended_by", "finished", "running_samples", "canary", "decided"}
    | {"lease_seconds", "lease_efficiency", "tenants"}
)
HEADINGS = ("on_seconds", "on_valid", "in_time", "spread", "at_the_cut", "alike", "lent")
HASH = re.compile(r"[0-9a-f]{32,}")
DIGITS = 12  # of a hash that stay visible
TOLD_BELOW = frozenset({"model_file", "fingerprint", "ranking_key", "prompt"})  # twice there, and whole paths


def render_html(j: Judgement, session_folder: Path | None = None, photos: bool = True) -> str:
    """The page. `session_folder` has the thumbnails; without `photos` neither they nor captions nor names are in it."""
    look = {model: charts.look(index) for index, model in enumerate(j.models)}
    album = disagreements(j, session_folder, private=photos)
    lease, raw = j.session.lease, j.evidence.facts.raw if j.evidence.facts else {}
    fixed = _fixed(raw)
    fixed_arms = [(model, _fixed(facts.raw)) for model, facts in _arm_facts(j).items() if facts.raw]
    figures = {
        "panels": timeline.panels(j),
        "grey": timeline.grey(j),
        "together": timeline.together(j),
        "timed": timeline.axis_of(j).timed,
        "lease_bar": charts.lease_bar(lease) if lease else None,
        "lease_parts": charts.lease_parts(lease) if lease else [],
        "loads": j.evidence.loads,
        "loads_drawn": any(load.at for load in j.evidence.loads or ()),
        **_against(j, look),
        **_distributions(j, look),
        **_ranks(j, look),
        **truth_chart.section(j, look),
    }
    return template("report.html.j2").render(
        j=j,
        look=look,
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        headline=sentences.headline(j),
        follow_up=sentences.follow_up(j),
        recommendation=sentences.recommendation_text(j),
        session_line=sentences.session_line(j),
        heading={name: getattr(headings, name)(j) for name in HEADINGS},
        warned=by_kind(j.warnings),
        when=_when(j),
        arm_rows=_arm_rows(j),
        photos=album,
        private=photos,
        folder=_shown(session_folder) if session_folder else None,
        lent=lending.rows(raw),
        fixed=fixed,
        fixed_arms=fixed_arms,
        hashes=_hashes(fixed, fixed_arms),
        names=j.models,
        **figures,
    )


def _shown(folder: Path) -> str:
    """A path that can be pasted where the command was run; of an absolute one its end, which names no person."""
    return str(Path(*folder.parts[-3:]) if folder.is_absolute() else folder)


@cache
def template(name: str) -> jinja2.Template:
    """A page's template, with the filters that they share."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.filters |= {
        "short": lambda text: HASH.sub(lambda found: found[0][:DIGITS] + "…", text),
        "names": _names,
        "ticks": _ticks,
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
        "effect": lambda warned: _ticks(effect_text(warned)),
        "seconds": formats.seconds,
        "clock": formats.clock,
        "rate": formats.rate,
        "percent": formats.percent,
    }
    return env.get_template(name)


@jinja2.pass_context
def _names(context: jinja2.runtime.Context, text: str) -> Markup:
    """A model's name never breaks at a hyphen."""
    words = text.split(" ")
    parts = [
        Markup('<span class="name">{}</span>').format(w) if w.strip(",.:;()") in context["names"] else w for w in words
    ]
    return Markup(" ").join(parts)


def _ticks(text: str) -> Markup:
    """`code` as code; everything else escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    coded = (Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts))
    return Markup("").join(coded)


def _when(j: Judgement) -> str | None:
    times = [row.started_at for arm in j.evidence.arms.values() for row in arm.rows if row.started_at]
    if not times:
        return None
    first, last = min(times), max(times)
    return f"{first.day} {first:%B %Y, %H:%M} to {last:%H:%M} UTC"


def _against(j: Judgement, look: Mapping[str, int]) -> dict[str, Any]:
    scale = charts.seconds_scale(j)
    on_seconds, on_valid = [], []
    for model in j.candidates:
        pair, valid = j.pair(model, "seconds"), j.pair(model, "valid_answers")
        if pair:
            on_seconds.append(_pair_row(pair) | {"figure": charts.forest(j, pair, look[model], scale)})
        if valid:
            on_valid.append(_pair_row(valid) | {"figure": charts.valid_forest(j, valid, look[model])})
    return {
        "shared_level": formats.level(j.pairs[0].level) if j.pairs else "95",
        "on_seconds": on_seconds,
        "on_valid": on_valid,
        "seconds_axis": charts.seconds_axis(scale),
        "valid_axis": charts.valid_axis(),
    }


def _pair_row(pair: Pair) -> dict[str, Any]:
    row = {"model": pair.b, "word": pair.verdict, "note": pair.note}
    if pair.estimate is None or pair.low is None or pair.high is None:
        return row | {"change": "not known", "interval": f"{formats.plural(pair.n, 'photo')} in common"}
    if pair.metric == "seconds":
        return row | {"change": f"{formats.change(pair.estimate)} %", "interval": formats.span(pair.low, pair.high)}
    run = f"{formats.signed_points(pair.low)} to {formats.signed_points(pair.high)}"
    return row | {"change": formats.points(pair.estimate), "interval": run}


def _arm_rows(j: Judgement) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The table of the arms: (label, unit, (figure, small print) an arm)."""
    arms = list(j.models.values())
    top = j.ranking[0].top_n if j.ranking else 10

    def number(value: float | None, unit: str = "") -> str:
        return "not known" if value is None else formats.seconds(value) + unit

    def speed(f: ModelFigures) -> tuple[str, str]:
        tokens = "" if f.completion_tokens_p50 is None else f"{f.completion_tokens_p50:.0f} tokens an answer"
        return ("not known" if f.tokens_per_second is None else formats.speed(f.tokens_per_second)), tokens

    def load(f: ModelFigures) -> tuple[str, str]:
        if f.cold_load_s is None:
            return "not recorded", ""
        return number(f.cold_load_s, " s"), f"median of {formats.plural(f.loads or 0, 'load')}"

    def tie(f: ModelFigures) -> tuple[str, str]:
        if f.tie is None:
            return "not known", ""
        return f"{f.tie.group} at score {f.tie.score:g}", f"for {formats.plural(f.tie.seats, 'seat')}"

    return [
        ("p50", "seconds, median", [(number(f.latency_p50_s), "") for f in arms]),
        ("p95", "seconds, describes only", [(number(f.latency_p95_s), "") for f in arms]),
        ("Tokens a second", "while generating", [speed(f) for f in arms]),
        *_truth_of_answers(arms),
        ("Cold load", "outside the sample", [load(f) for f in arms]),
        (
            "Rows",
            "counted: in the seconds",
            [(f"{f.rows} asked, {f.ok} answered", f"{f.counted} counted") for f in arms],
        ),
        (f"Ties at the top {top}", "photos at the cut", [tie(f) for f in arms]),
        ("Projector", "mmproj precision", [(f.mmproj or "not known", "") for f in arms]),
    ]


def _truth_of_answers(arms: list[ModelFigures]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """A step at a time from a request to an answer that is worth something, and what went wrong on the way."""
    steps = (
        ("HTTP ok", "answered at all; 95 % Wilson", [f.http_ok for f in arms]),
        ("Complete", "and ended by itself", [f.complete for f in arms]),
        ("JSON", "and parsed as a whole", [f.parsed_rate for f in arms]),
        ("Schema-valid", "and as the question asks", [f.schema_valid for f in arms]),
    )
    rates = [
        (label, small, [sentences.rate_text(found, f.rows) for found, f in zip(row, arms, strict=True)])
        for label, small, row in steps
    ]
    return [
        *rates,
        ("Schema enforced", "by the engine, probed", [(sentences.enforced_text(f), "") for f in arms]),
        ("Failures", "answers by what is wrong", [(sentences.failures_text(f), "") for f in arms]),
    ]


def _distributions(j: Judgement, look: Mapping[str, int]) -> dict[str, Any]:
    axis = charts.Seconds(j)
    found = []
    for place, (model, f) in enumerate(j.models.items(), 1):
        note = headings.noted(f)
        if f.latency_p50_s is not None:
            beyond = axis.beyond(model)
            slowest = formats.seconds(float(axis.of[model].max()))
            note += f"; {beyond} beyond the axis, up to {slowest} s" if beyond else ""
        figure = charts.distribution(j, model, look[model], axis, last=place == len(j.models))
        found.append({"model": model, "note": note, "figure": figure})
    return {"distributions": found, "bin": f"{axis.step:g}"}


def _ranks(j: Judgement, look: Mapping[str, int]) -> dict[str, Any]:
    scores = [
        {"model": model, "figure": figure, "note": sentences.tie_sentence(j, model)}
        for model in j.models
        if (figure := charts.scores(j, model, look[model])) is not None
    ]
    rankings = [
        {
            "a": r.a,
            "b": r.b,
            "n": r.n,
            "tau": "not defined" if r.tau_b is None else f"tau-b {formats.plain(r.tau_b)}",
            "interval": "" if r.low is None or r.high is None else f"{formats.plain(r.low)} to {formats.plain(r.high)}",
            "tau_figure": charts.tau(r),
            "shared": "not known" if r.expected_overlap is None else f"{r.expected_overlap:.1f} shared",
            "chance": "" if r.chance_overlap is None else f"chance {r.chance_overlap:.1f}",
            "overlap_figure": charts.overlap(r),
        }
        for r in j.ranking
    ]
    return {"scores": scores, "rankings": rankings, "top_n": j.ranking[0].top_n if j.ranking else 10}


def _hashes(fixed: list[tuple[str, str]], arms: list[tuple[str, list[tuple[str, str]]]]) -> list[tuple[str, str]]:
    """Whole values of what the tables show the beginning of."""
    everything = [(f"{model}, {name}", value) for model, facts in arms for name, value in facts] + fixed
    return [(name, value) for name, value in everything if HASH.search(value)]


def _arm_facts(j: Judgement) -> Mapping[str, Any]:
    return j.evidence.facts.arms if j.evidence.facts else {}


def _fixed(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Plain values of a session file, as it names them; lists and the photos' names stay out."""
    found: list[tuple[str, Any]] = []
    for name, value in raw.items():
        if name in TOLD_ELSEWHERE or name in ("arms", "models", "photos"):
            continue
        if isinstance(value, Mapping):
            found += [(f"{name} {key}", below) for key, below in value.items() if key not in TOLD_BELOW]
        else:
            found.append((name, value))
    return [(name.replace("_", " "), _short(value)) for name, value in found if isinstance(value, str | int | float)]


def _short(value: str | int | float) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_FACT else text[: LONGEST_FACT - 1] + "…"
