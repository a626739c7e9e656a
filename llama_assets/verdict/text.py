"""The judgement as 80 columns of ASCII for a terminal or a CI log, and as Markdown for a pull request.

Neither holds a photo, a photo's name or an answer. Not here: the sentences (`sentences`), the page (`report`).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator

from .formats import MINUS, change, level, plural, points, seconds, signed_points, span, speed
from .judgement import Judgement, ModelFigures, Pair, Rate
from .sentences import (
    against_text,
    enforced_text,
    failures_text,
    follow_up,
    headline,
    lease_line,
    rate_text,
    recommendation_text,
    session_line,
)
from .truth_sentences import markdown_tables, text_tables, undecided
from .warning_texts import effect_text

NAME = 15  # columns for a model's name
RATED = (
    "AUC: how often a photo you like has the higher score than another, a tie counting half; "
    "top 10 and average precision (AP): by chance in brackets. They change no recommendation."
)
TICKS = (0, -50, 50, -20, 20, 100, -10, 10, -30, -70, 30, -40, 200, -90, 400)  # percent; the first that fit are drawn


def render_text(j: Judgement, width: int = 80, bold: bool = False) -> str:
    """The verdict for a terminal: sentence, table, plot, warnings with what to do. ASCII, `width` columns.

    `bold` is for a terminal that shows it: the same words, the headline and what stops a recommendation stand out.
    """
    lease = lease_line(j)
    about = session_line(j) + (f"; {lease}" if lease else "")
    lines = [
        *_wrapped(f"session {j.session.id or '(no id)'}", width, "VERDICT  ", " " * 9),
        *_wrapped(about, width),
        "",
        *_strong(_wrapped(headline(j), width), bold),
    ]
    for sentence in follow_up(j):
        lines += _wrapped(sentence, width)
    lines += ["", *_table(j, width), ""]
    for model, figures in j.models.items():
        if figures.failures:
            lines += _wrapped(
                f"{model}, of {plural(figures.rows, 'row')}: {failures_text(figures)}", width, "failures  ", " " * 10
            )
    if any(figures.failures for figures in j.models.values()):
        lines.append("")
    plot = forest(j, width)
    if plot:
        shared = next(pair.level for pair in j.pairs if pair.metric == "seconds")
        what = f"seconds against {against_text(j)}, {level(shared)} % interval; ':' is the 5 % margin of equivalence"
        lines += [*_wrapped(what, width), *plot, ""]
    if j.truth:
        for line in text_tables(j, NAME):
            lines += _cut(_ascii(line), width)
        for sentence in [RATED, *undecided(j)]:
            lines += _wrapped(sentence, width)
        lines.append("")
    for place, warned in enumerate(j.warnings, 1):
        stops = warned.effect == "no_recommendation"
        about = f"{'STOP' if stops else 'warn'} {warned.code}  {warned.model or ''}"
        lines += _strong(_wrapped(about, width, "", "     "), bold and stops)
        lines += _wrapped(warned.detail, width, "     ")
        lines += _wrapped(f"effect: {effect_text(warned)}", width, "     ")
        if place == len(j.warnings) or j.warnings[place].todo != warned.todo:  # said once for all arms it is about
            lines += _wrapped(f"-> {warned.todo}", width, "     ", "        ")
    if not j.warnings:
        lines.append(f"no warnings ({plural(len(j.quiet), 'check')})")
    what, why = recommendation_text(j)
    lines += ["", *_wrapped(f"{what} ({why})", width, "recommended  ", " " * 13)]
    asked = "no question is open"
    if j.not_judged:
        first = j.not_judged[0].question
        asked = f"{plural(len(j.not_judged), 'question')}; first: {first[0].lower()}{first[1:]}"
    return "\n".join([*lines, *_wrapped(asked, width, "not judged   ", " " * 13)]) + "\n"


def _wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    plain = _ascii(text)
    indent = first if rest is None else rest
    return textwrap.wrap(plain, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)


def _strong(lines: list[str], bold: bool) -> list[str]:
    return [f"\x1b[1m{line}\x1b[0m" for line in lines] if bold else lines


def _ascii(text: str) -> str:
    """The same text in ASCII, in one line and without a terminal's commands; what a foreign name holds else is `?`."""
    swapped = text.replace(MINUS, "-").replace("±", "+-").replace("×", "x").replace("…", "...")
    shown = (letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in swapped)
    return "".join(shown).encode("ascii", "replace").decode()


def _named(model: str, width: int) -> tuple[list[str], str]:
    """A model's name in its column, or on lines of its own with an empty column."""
    name = _ascii(model)
    if len(name) < NAME:
        return [], f"{name:<{NAME}}"
    return _cut(name, width), " " * NAME


def _cut(line: str, width: int) -> list[str]:
    return [line[at : at + width] for at in range(0, len(line), width)]


def _table(j: Judgement, width: int) -> Iterator[str]:
    yield " " * NAME + f"{'p50 s':>6}{'p95 s':>7}{'tok/s':>6}{'load s':>7}  {'valid, 95 %':<14}{'by lot':>9}  verdict"
    for model, figures in j.models.items():
        pair = j.pair(model, "seconds")
        word = "incumbent" if model == j.incumbent else pair.verdict if pair else ""
        valid, tie = figures.schema_valid, figures.tie
        cells = f"{_cell(figures.latency_p50_s):>6}{_cell(figures.latency_p95_s):>7}"
        tokens = "-" if figures.tokens_per_second is None else speed(figures.tokens_per_second)
        tokens = tokens if len(tokens) < 6 else tokens.replace(",", "")  # a figure does not touch its neighbour
        cells += f"{tokens:>6}{_cell(figures.cold_load_s):>7}  "
        share = f"{valid.count}/{figures.rows}" if figures.rows < 1000 else f"{_share(valid.rate)} %"
        run = "-" if valid.count is None else f"{share} {_share(valid.low)}-{_share(valid.high)}"
        lot = "-" if tie is None else "none" if tie.seats == tie.group else f"{tie.seats} of {tie.group}"
        cells += f"{run:<14}{lot:>9}  {word}"
        above, name = _named(model, width)
        yield from above
        yield name + cells
    yield "valid: answers, and their 95 % interval in percent; by lot: seats of the top 10"
    yield "drawn by lot, and the photos tied for them; verdict: on seconds"


def _cell(value: float | None) -> str:
    return "-" if value is None else seconds(value)


def _share(value: float | None) -> str:
    """Whole percent, but never a false 0 or 100."""
    if value is None:
        return ""
    return f"{100 * value:.0f}" if value in (0, 1) else f"{min(99, max(1, 100 * value)):.0f}"


def forest(j: Judgement, width: int = 80) -> list[str]:
    """The plot of all pairs on seconds: `|--o--|` interval and estimate, `:` the margin, `.` no change. Log scale."""
    drawn = [pair for pair in j.pairs if pair.metric == "seconds" and pair.low is not None and pair.high is not None]
    if not drawn:
        return []
    room = width - NAME - 1
    low = math.log(min(0.88, *(0.97 * (pair.low or 1) for pair in drawn)))
    high = math.log(max(1.12, *(1.03 * (pair.high or 1) for pair in drawn)))

    def column(ratio: float) -> int:
        return max(0, min(room - 1, round((math.log(ratio) - low) / (high - low) * (room - 1))))

    ruler = [" "] * room
    for tick in TICKS:
        text = f"{tick:+d}%" if tick else "same"
        start = column(1 + tick / 100) - len(text) // 2
        inside = low < math.log(1 + tick / 100) < high and start >= 0 and start + len(text) <= room
        if inside and not "".join(ruler[max(0, start - 1) : start + len(text) + 1]).strip():
            ruler[start : start + len(text)] = text
    lines = [(" " * NAME + "".join(ruler)).rstrip()]
    for pair in drawn:
        cells = [" "] * room
        for ratio, mark in ((1 / 1.05, ":"), (1.05, ":"), (1.0, ".")):
            cells[column(ratio)] = mark
        left, right = column(pair.low or 1), column(pair.high or 1)
        cells[left : right + 1] = ["-"] * (right - left + 1)
        cells[left] = cells[right] = "|"
        cells[column(pair.estimate or 1)] = "o"
        above, name = _named(pair.b.replace("`", "'"), width)  # the plot stands in a fence of Markdown
        lines += [*above, (name + "".join(cells)).rstrip()]
    return lines


def render_markdown(j: Judgement) -> str:
    """For a pull request: the plot as text (GitHub drops inline pictures), long parts folded, no photos."""
    what, why = recommendation_text(j)
    lease = lease_line(j)
    told = f"**{_md(what)}** ({_md(why)}). {session_line(j)}{f', {lease}' if lease else ''}."
    lines = [f"### {_md(headline(j))}", "", *(_md(sentence) for sentence in follow_up(j)), "", told, ""]
    lines += [*_verdict_table(j), *_plot(j), *_arms_table(j), "", *_rated(j)]
    stop = " open" if j.stops else ""
    lines += [f"<details{stop}><summary>{plural(len(j.warnings), 'warning')}</summary>", ""]
    for warned in j.warnings:
        mark = "**stops** " if warned.effect == "no_recommendation" else ""
        where = f" {_md(warned.model)}" if warned.model else ""
        said = f"{_md(warned.detail)} Effect: {_md(effect_text(warned))}. To do: {_md(warned.todo)}"
        lines.append(f"- {mark}`{warned.code}`{where}: {said}")
    lines += ["" if j.warnings else "None.", "</details>", "<details><summary>Not judged</summary>", ""]
    lines += [f"- {_md(x.question)}: {_md(x.why)}. It would take: {_md(x.would_take)}." for x in j.not_judged]
    return "\n".join([*lines, "", "</details>"]) + "\n"


def _rated(j: Judgement) -> Iterator[str]:
    for heading, rows in markdown_tables(j):
        yield f"**Your {_md(heading)}**"
        yield ""
        yield "| | AUC | 95 % interval | in the top 10 (by chance) | p | average precision at 10 (by chance) |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for row in rows:
            yield f"| {' | '.join(_md(cell) for cell in row)} |"
        yield ""
    if j.truth:
        yield from (_md(sentence) for sentence in undecided(j))
        yield ""


def _verdict_table(j: Judgement) -> Iterator[str]:
    if not j.candidates:
        return
    yield f"| against {_md(against_text(j))} | seconds per photo | interval | verdict | valid answers | verdict |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for model in j.candidates:
        on_seconds, on_valid = _seconds_cells(j.pair(model, "seconds")), _valid_cells(j.pair(model, "valid_answers"))
        yield f"| {_md(model)} | {on_seconds} | {on_valid} |"
    yield ""


def _seconds_cells(pair: Pair | None) -> str:
    if pair is None or pair.estimate is None or pair.low is None or pair.high is None:
        return "| | **inconclusive**"
    note = f" ({_md(pair.note)})" if pair.note else ""
    interval = f"{span(pair.low, pair.high)} ({level(pair.level)} %)"
    return f"{change(pair.estimate)} % | {interval} | **{pair.verdict}**{note}"


def _valid_cells(pair: Pair | None) -> str:
    if pair is None or pair.estimate is None or pair.low is None or pair.high is None:
        return "not known |"
    run = f"{points(pair.estimate)} ({signed_points(pair.low)} to {signed_points(pair.high)})"
    return f"{run} | **{pair.verdict}**"


def _plot(j: Judgement) -> list[str]:
    plot = forest(j)
    legend = " " * NAME + "o estimate, |-| interval, : margin of equivalence (5 %)"
    return ["```text", *plot, legend, "```", ""] if plot else []


def _arms_table(j: Judgement) -> Iterator[str]:
    yield f"| | {' | '.join(_md(model) for model in j.models)} |"
    yield "| --- |" + " --- |" * len(j.models)
    for label, cell in ROWS:
        yield f"| {label} | " + " | ".join(_md(cell(figures)) for figures in j.models.values()) + " |"


def _rate_cell(found: Rate, figures: ModelFigures) -> str:
    count, run = rate_text(found, figures.rows)
    return f"{count} ({run})" if run else count


def _load_cell(figures: ModelFigures) -> str:
    if figures.cold_load_s is None:
        return "not recorded"
    return f"{seconds(figures.cold_load_s)} ({plural(figures.loads or 0, 'load')})"


ROWS: tuple[tuple[str, Callable[[ModelFigures], str]], ...] = (
    ("p50, s", lambda f: _cell(f.latency_p50_s)),
    ("p95, s (describes only)", lambda f: _cell(f.latency_p95_s)),
    ("tokens a second", lambda f: "-" if f.tokens_per_second is None else speed(f.tokens_per_second)),
    ("HTTP ok", lambda f: _rate_cell(f.http_ok, f)),
    ("complete", lambda f: _rate_cell(f.complete, f)),
    ("JSON", lambda f: _rate_cell(f.parsed_rate, f)),
    ("schema-valid", lambda f: _rate_cell(f.schema_valid, f)),
    ("schema enforced", enforced_text),
    ("failures", failures_text),
    ("cold load, s", _load_cell),
    ("rows, counted", lambda f: f"{f.rows}, {f.counted}"),
    ("seats by lot", lambda f: "-" if f.tie is None else f"{f.tie.seats} among {f.tie.group} at {f.tie.score:g}"),
    ("projector", lambda f: f.mmproj or "not known"),
)


def _md(text: str) -> str:
    """Foreign text inside Markdown: no table cell, tag, emphasis or link of its own."""
    flat = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    for sign, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("*", "\\*"), ("[", "\\[")):
        flat = flat.replace(sign, safe)
    for sign, safe in (("://", ":&#47;&#47;"), ("www.", "www&#46;")):  # addresses in errors become no links
        flat = flat.replace(sign, safe)
    return flat
