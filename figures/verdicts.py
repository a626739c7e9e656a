"""What verdicts promise, simulated: equal arms judged, a true tenth found, false warnings, coverage; and seconds.

Log seconds are a photo effect of 15 %, noise of 10 % (AR(1) over the session in the order asked) and drift; 100 photos
in four mirrored blocks. Sessions are judged by the functions of `verdict.statistics`, stacked; clean ones by
`judge_rows`. The rival is the paired t test at the same level.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from figures.coverage import lines as coverage
from figures.coverage import log_ratios
from figures.measuring import Goal, How, Program, line, run, scratch
from llama_assets.bench import Question, read_rows
from llama_assets.verdict import statistics
from llama_assets.verdict.facts import facts_of
from llama_assets.verdict.judging import judge_rows
from tests.verdict.sessions import Recipe, record, rows, write_csv

COMMAND = "verdict.statistics.typical_ratio and ratio_words, autocorrelation 0.6, 100 photos in 4 mirrored blocks"
NAIVE = "scipy.stats.ttest_1samp of the paired log ratios, the same level"


def measure(how: How) -> Iterator[dict[str, Any]]:
    batches, sessions = (2, 50) if how.quick else (10, 1000)
    for arms in (2, 3):
        for drift in (0.0, 0.08):
            found = [_judged(log_ratios(seed, sessions, arms, drift)) for seed in range(batches)]
            ours, naive = ([100 * float(one[which].any(axis=1).mean()) for one in found] for which in (0, 1))
            made = line("verdict_aa", how, Goal(5.0, "ours"), "% judged", ours, COMMAND, ("paired t", naive, NAIVE))
            worst = max(ours)
            yield made | {
                "reached": worst, "met": None if how.quick else worst <= 5, "reached_is": "the worst batch",
                "arms": arms, "drift": drift, "sessions_a_batch": sessions, "mean": float(np.mean(ours)),
            }  # fmt: skip
    for arms, goal in ((2, 75), (3, 62)):
        found = [_judged(log_ratios(100 + seed, sessions, arms, 0.04, 1.10), "worse") for seed in range(batches)]
        power = [100 * float(ours[:, -1].mean()) for ours, _ in found]
        made = line("verdict_power", how, None, "% found", power, COMMAND)
        reached = float(np.mean(power))
        met = None if how.quick else reached >= goal
        yield made | {"goal": f">= {goal} %", "reached": reached, "met": met, "arms": arms, "true_ratio": 1.10}
    yield from coverage(how)
    for arms in (2, 3):
        with scratch() as folder:
            warned = [_warned(folder, seed, arms) for seed in range(10 if how.quick else 300)]
        made = line("verdict_clean", how, Goal(5.0, "ours"), "% with a warning", [100 * float(np.mean(warned))],
                    "judge_rows, autocorrelation 0.3", None)  # fmt: skip
        yield made | {"arms": arms, "sessions": len(warned)}
    for photos in (10, 20) if how.quick else (100, 100_000):
        with scratch() as folder:
            recipe = Recipe(photos=photos, ratios=(1, 0.95, 0.6))
            path = write_csv(folder / "rows.csv", recipe, list(rows(Recipe(photos=1))[0]))
            program = Program("judge", (sys.executable, "-m", "llama_assets.cli", "judge", str(path), "--json"))
            ran = [run(program) for _ in range(how.rounds)]
        limit = 1.5 if photos <= 100 else 15.0
        made = line("judge", how, Goal(limit, "ours"), "s", [one.seconds for one in ran], "llama-assets judge rows.csv")
        yield made | {"rows": 3 * photos, "peak_mib": round(max(one.peak_mib for one in ran))}


def _judged(d: np.ndarray, word: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """[session, candidate] judged better or worse (or as `word`), by our rule and by the paired t test."""
    from scipy import stats

    level = 1 - statistics.RULES.error / d.shape[1]
    wide, narrow = statistics.typical_ratio(d, level), statistics.typical_ratio(d, 0.90)
    words = statistics.ratio_words(wide.estimate, wide.half_width, narrow.half_width)
    slow = statistics.lag1(statistics.winsorised(d, statistics.RULES.trim)) >= statistics.RULES.slow_noise
    ours = np.isin(words, [word] if word else ["better", "worse"]) & ~slow
    return ours, stats.ttest_1samp(d, 0, axis=-1).pvalue < 1 - level


def _warned(folder: Path, seed: int, arms: int) -> bool:
    recipe = Recipe(models=("a", "b", "c")[:arms], noise=0.10, photo_effect=0.15, seed=10_000 + seed)
    path = write_csv(folder / "rows.csv", recipe, list(rows(Recipe(photos=1))[0]))
    told = record(recipe)
    question = Question.from_json(told["question"])
    return bool(judge_rows(read_rows(path, question), facts_of(told), question).warnings)
