"""A judgement as figures that plot: flat, stable keys, numbers only, for Dagster.

What is not known has no key rather than a 0. Not here: pictures (`pictures`), sentences.
"""

from __future__ import annotations

from .judgement import Judgement

# Contract: the names under which a benchmark's history plots.
ARM_KEYS = (
    "latency_p50_s",
    "latency_p95_s",
    "tokens_per_second",
    "schema_valid_rate",
    "cold_load_s",
    "rows",
    "ok",
    "lease_efficiency",
)


def metadata(j: Judgement, model: str | None = None) -> dict[str, float | int]:
    """Of one arm: `ARM_KEYS`. Of the verdict (no model): `warnings`, `not_judged`, `lease_efficiency`, and of each
    candidate `<m>/ratio`, `<m>/ratio_low`, `<m>/ratio_high`, `<m>/valid_difference`; of each arm `<m>/auc` by
    favourites and `<m>/auc_stars` by stars, where ratings came."""
    efficiency = j.session.lease.efficiency if j.session.lease else None
    found: dict[str, float | int | None] = {}
    if model is not None:
        figures = j.models[model]
        found = {
            "latency_p50_s": figures.latency_p50_s,
            "latency_p95_s": figures.latency_p95_s,
            "tokens_per_second": figures.tokens_per_second,
            "schema_valid_rate": figures.schema_valid.rate,
            "cold_load_s": figures.cold_load_s,
            "rows": figures.rows,
            "ok": figures.ok,
            "lease_efficiency": efficiency,
        }
    else:
        found = {"warnings": len(j.warnings), "not_judged": len(j.not_judged), "lease_efficiency": efficiency}
        for pair in j.pairs:
            if pair.metric == "seconds":
                found |= {f"{pair.b}/ratio": pair.estimate, f"{pair.b}/ratio_low": pair.low}
                found |= {f"{pair.b}/ratio_high": pair.high}
            else:
                found[f"{pair.b}/valid_difference"] = pair.estimate
        for name, one in j.truth.items():
            key = "auc" if name == "favourites" else f"auc_{name}"
            found |= {f"{arm}/{key}": figures.auc for arm, figures in one.models.items()}
    return {key: value for key, value in found.items() if value is not None}
