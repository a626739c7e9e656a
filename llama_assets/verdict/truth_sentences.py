"""What a person's ratings say of each arm, in words, 80 columns and Markdown; made from the judgement's numbers only.

Here: sentences and the two plain tables. Not here: the figure (`truth_chart`), what is a positive (`ground_truth`).
Nothing of it names a photo, and nothing of it is the recommendation.
"""

from __future__ import annotations

from collections.abc import Iterator

from .formats import count, level, plural, probability, signed
from .ground_truth import SIDES
from .judgement import Judgement, TruthFigures, TruthName, TruthPair, Truths

YOURS: dict[TruthName, str] = {"favourites": "your favourites", "stars": "your stars"}


def decided(j: Judgement) -> list[str]:
    """A sentence for each pair that has a better or worse."""
    return [
        f"{pair_sentence(pair)}."
        for one in j.truth.values()
        for pair in one.pairs
        if pair.verdict in ("better", "worse")
    ]


def undecided(j: Judgement) -> list[str]:
    """A sentence for each other pair, and why it has no word."""
    return [
        f"{pair_sentence(pair)}."
        for one in j.truth.values()
        for pair in one.pairs
        if pair.verdict not in ("better", "worse")
    ]


def pair_sentence(pair: TruthPair) -> str:
    """A candidate against the incumbent, without the full stop."""
    yours = YOURS[pair.truth]
    if pair.difference is None or pair.low is None or pair.high is None:
        return f"{pair.b} and {pair.a} cannot be compared on {yours}: {pair.note}"
    by, interval = f"AUC {signed(pair.difference)}", f"{level(pair.level)} % interval"
    ends = f"{signed(pair.low)} to {signed(pair.high)}"
    if pair.verdict is None:
        return f"{pair.b} against {pair.a} has no verdict on {yours}: {by} ({interval} {ends}), with {pair.note}"
    if pair.verdict == "inconclusive":
        return f"{pair.b} against {pair.a} is inconclusive on {yours}: {by}, but the {interval} runs from {ends}"
    return f"{pair.b} is {pair.verdict} than {pair.a} on {yours}: {by} ({interval} {ends})"


def model_sentence(name: TruthName, model: str, figures: TruthFigures) -> str:
    """What an arm's figures mean, without the full stop."""
    one, many = SIDES[name][0]
    if figures.auc is None or figures.low is None or figures.high is None:
        return (
            f"{model} has scores for {plural(figures.n, 'rated photo')}, {plural(figures.positives, one, many)} of them"
        )
    told = f"{model}: AUC {area(figures.auc)} (95 % interval {area(figures.low)} to {area(figures.high)})"
    if figures.hits is None or figures.chance is None or figures.p is None:
        return told
    return (
        f"{told}; {figures.hits:.1f} of its top {figures.top_n} are {many}, "
        f"{figures.chance:.1f} by chance (p {probability(figures.p)})"
    )


def rated_line(name: TruthName, one: Truths) -> str:
    """`favourites: 12 of 100 rated photos`."""
    return f"{SIDES[name][0][1]}: {count(one.positives)} of {plural(one.photos, 'rated photo')}"


def area(x: float) -> str:
    """An AUC with two decimals, never a false 0 or 1."""
    return f"{x:.0f}" if x in (0, 1) else f"{min(0.99, max(0.01, x)):.2f}"


def _cells(figures: TruthFigures) -> tuple[str, str, str, str, str]:
    """AUC, its interval, hits with chance, p, average precision with chance; `-` for what is not known."""
    run = "-" if figures.low is None or figures.high is None else f"{area(figures.low)} to {area(figures.high)}"
    hits = "-" if figures.hits is None else f"{figures.hits:.1f} ({figures.chance:.1f})"
    p = "-" if figures.p is None else probability(figures.p).removeprefix("= ")
    precision = figures.average_precision
    mean = "-" if precision is None else f"{precision:.2f} ({figures.chance_average_precision:.2f})"
    return ("-" if figures.auc is None else area(figures.auc)), run, hits, p, mean


def text_tables(j: Judgement, name_columns: int) -> Iterator[str]:
    """A table a truth in 80 columns; nothing where no ratings came."""
    for name, one in j.truth.items():
        yield rated_line(name, one)
        yield " " * name_columns + f"{'AUC':>6}  {'95 % interval':<14}{'top 10':>11}{'p':>8}{'AP at 10':>14}"
        for model, figures in one.models.items():
            auc, run, hits, p, mean = _cells(figures)
            shown = model
            if len(shown) >= name_columns:
                yield shown
                shown = ""
            yield f"{shown:<{name_columns}}{auc:>6}  {run:<14}{hits:>11}{p:>8}{mean:>14}"


def markdown_tables(j: Judgement) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Heading and rows a truth; the caller escapes and draws."""
    for name, one in j.truth.items():
        yield rated_line(name, one), [(model, *_cells(figures)) for model, figures in one.models.items()]
