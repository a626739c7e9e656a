"""Sessions with one flaw each, at strengths above and below what the warnings promise to see. Imports nothing of them.

`flawed(seed)` gives some sixty; they differ in arms (2 to 5), blocks, scale, photos' names and seed, so that a
threshold tuned to one file shows. Where a limit is a count or a ratio the rule states, the strengths stand on both
sides of it; where noise decides (drift, slow noise), well above what simulations find in nearly every session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from .sessions import Recipe

ARMS = (("a", "b"), ("qwen3vl-8b", "minicpm-v-4-5", "qwen3vl-4b"), tuple("wxyz"), tuple("abcde"))
NAMES = ("photo-{:03d}.jpg", "{}", "2026/Été à la mer/IMG {:04d}.HEIC", 'a,b;"{}".png')
SCALES = (6.0, 0.2, 60.0)
RATIOS = (1.0, 0.95, 1.1, 0.6, 1.3)


@dataclass(frozen=True)
class Flawed:
    """A session, what it is called, the one warning it has (None: none), and what its session file says otherwise."""

    name: str
    code: str
    fires: bool
    recipe: Recipe
    changed: dict[str, Any] = field(default_factory=dict)


def top(share: float) -> tuple[float, ...]:
    """Shares of scores of which the highest given is `share`, the others spread below it."""
    return (*((1 - share) / 8 for _ in range(8)), share, 0.0)


def flawed(seed: int = 1) -> Iterator[Flawed]:
    """All of them; another seed turns the noise, not what is wrong."""
    number = count()

    def made(code: str, strength: object, fires: bool, changed: dict[str, Any] | None = None, **what: Any) -> Flawed:
        at = next(number)
        models = what.pop("models", ARMS[at % 4])
        recipe = Recipe(
            models=models, ratios=RATIOS[: len(models)], blocks=(4, 10, 6)[at % 3], names=NAMES[(at // 2) % 4],
            median_s=SCALES[(at // 3) % 3], noise=0.10, photo_effect=0.15, seed=1000 * seed + at,
        )  # fmt: skip
        told = {key: value(models) if callable(value) else value for key, value in what.items()}
        session = {key: value(models) if callable(value) else value for key, value in (changed or {}).items()}
        return Flawed(f"{at}: {code}, {strength}", code, fires, replace(recipe, **told), session)

    def last(value: Any) -> Any:
        return lambda models: {models[-1]: value}

    for answers in (1, 2, 5, 40):
        yield made("wrong_typed_field", answers, True, wrong_typed=last(answers))
        yield made("truncated_answers", answers, True, truncated=last(answers))
        yield made("errors", answers, True, failed=last(answers))
        yield made("contaminated", f"{answers} marked", True, marked=last(range(answers)))
    for share in (0.22, 0.35, 0.6):
        yield made("ties_at_top", share, True, shares=last(top(share)))
    for share in (0.06, 0.12, 0.18):
        yield made("ties_at_top", share, False, shares=last(top(share)))
    for at, times in enumerate((3.0, 4.0, 8.0, 30.0)):  # the first answer against the others
        yield made("cold_load_in_sample", f"x {times}", True, cold_first=True, median_s=SCALES[at % 3],
                   load_s=(times - 1) * SCALES[at % 3] * 1.3)  # fmt: skip
        yield made("cold_load_in_sample", f"x {times}, one load", True, cold_first=True, blocks=1,
                   load_s=(times + 1) * SCALES[at % 3] * 1.3, median_s=SCALES[at % 3])  # fmt: skip
    for at, times in enumerate((1.1, 1.25)):
        yield made("cold_load_in_sample", f"x {times}", False, cold_first=True, load_s=(times - 1) * SCALES[at % 3],
                   median_s=SCALES[at % 3])  # fmt: skip
    for rows, times in ((6, 2.5), (8, 3.0), (15, 2.5), (10, 4.0)):
        yield made("contaminated", f"{rows} rows x {times}", True, slow=last((40, rows, times)))
    for rows, times in ((1, 5.0), (2, 4.0), (8, 1.15)):
        yield made("contaminated", f"{rows} rows x {times}", False, slow=last((40, rows, times)))
    for shift, blocks in ((0.8, 4), (1.2, 10), (1.0, 6)):
        yield made("drift", shift, True, drift=shift, blocks=blocks, noise=0.05, photo_effect=0.05, models=ARMS[1])
    for shift in (0.01, 0.03):
        yield made("drift", shift, False, drift=shift)
    for rho in (0.9, 0.93):
        yield made("autocorrelation", rho, True, rho=rho, models=ARMS[1], blocks=4)
    for rho in (0.0, 0.2):
        yield made("autocorrelation", rho, False, rho=rho)
    for precision in ("Q8_0", "BF16", "mmproj-model-Q8_0.gguf"):
        yield made("mixed_mmproj", precision, True, changed={"mmproj": last(precision)})
    for precision in ("f16", "mmproj-Qwen3-VL-F16.gguf"):
        yield made("mixed_mmproj", precision, False, changed={"mmproj": last(precision)})
    yield made("mixed_engine", "build", True, changed={"engine": last({"kind": "llama-server", "build": "b9879"})})
    yield made("mixed_engine", "image", True, changed={"engine": last({"image": "llama-swap@sha256:1"})})
    for share in (0.12, 0.2, 0.5):
        yield made("leased_idle", share, True, changed={"idle": share}, median_s=6.0)
    for share in (0.02, 0.08):
        yield made("leased_idle", share, False, changed={"idle": share}, median_s=6.0)
    for photos in (12, 29):
        yield made("too_few_rows", photos, True, photos=photos, blocks=4)
    yield made("too_few_rows", 30, False, photos=30, blocks=4)
