"""Sessions drawn from a seed: every state of a verdict, under names, engines and errors as foreign files have them.

Imports nothing of the verdict. `drawn(seed)` is a recipe and what its session file says otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .sessions import SHARES, Recipe

NAMES = (
    "qwen3vl-8b", "minicpm-v-4-5", "qwen3vl-4b", "incumbent", "a", "unsloth/Qwen3-VL-8B-Instruct-GGUF:UD-Q4_K_XL",
    "modèle-à-essayer", "模型", "a|b`c`", "<b>*bold*</b>", "two\nlines", "red\x1b[31m", "x" * 130, "[link](http://a.b)",
)  # fmt: skip
IMAGE = "ghcr.io/mostlygeek/llama-swap:cuda@sha256:"
CROWDED = (0, 0, 0, 0.02, 0.03, 0.08, 0.12, 0.26, 0.49, 0)


def drawn(seed: int) -> tuple[Recipe, dict[str, Any]]:
    """One session; another seed is another one."""
    rng = np.random.default_rng(seed)

    def some(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    arms = int(some(1, 2, 2, 3, 3, 5, 7))
    models = tuple(NAMES[place] for place in rng.permutation(len(NAMES))[:arms])
    photos = int(some(8, 30, 40, 60, 100))
    last = models[-1]
    faults = {
        kind: {last: int(rng.integers(1, photos))}
        for kind in ("wrong_typed", "truncated", "failed")
        if rng.random() < 0.2
    }
    recipe = Recipe(
        models=models,
        photos=photos,
        ratios=(1.0, *np.exp(rng.normal(0, some(0.005, 0.05, 0.7), arms - 1))),
        blocks=int(some(1, 2, 4, 4, 6)),
        median_s=float(some(0.02, 0.8, 6, 60, 900)),
        noise=float(some(0.004, 0.05, 0.3)),
        rho=float(some(0, 0.3, 0.9)),
        drift=float(some(0, 0, 0.05, 0.5)),
        cold_first=bool(rng.random() < 0.2),
        shares={last: some(SHARES, CROWDED)},
        marked={last: range(int(some(0, 0, 2, photos // 2)))},
        seed=seed,
        **faults,
    )
    changed: dict[str, Any] = {}
    if rng.random() < 0.3:
        changed["mmproj"] = {last: "Q8_0"}
    if rng.random() < 0.3:
        changed["engine"] = {last: {"image": IMAGE + "ef" * 32}, models[0]: {"image": IMAGE + "ab" * 32}}
    if rng.random() < 0.3:
        changed["lease_seconds"] = float(some(0.5, 700, 4000, 90_000))
    if rng.random() < 0.4:
        liked = rng.random(photos) < some(0.1, 0.5)
        stars = rng.integers(1, 6, photos)
        changed["photos"] = [
            {"name": recipe.names.format(n), "favourite": bool(liked[n]), "stars": int(stars[n])} for n in range(photos)
        ]
    return recipe, changed
