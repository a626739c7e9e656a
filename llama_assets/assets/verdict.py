"""Which model should answer: better, worse, equivalent or inconclusive, each read off the rows alone.

The report, the comparison and the recommendation of one session. Yielded by the benchmark's step when something was
measured; selected alone it judges the newest finished session again and takes no lease.
"""

import dagster as dg

from llama_assets.assets.described import first_paragraph
from llama_assets.catalog import Catalog
from llama_assets.tasks.messages import VerdictResult

GROUP = "verdict"
VERDICT = dg.AssetKey("verdict")


def key(question: str) -> dg.AssetKey:
    """`verdict`, of the question that every catalog has; `verdict/<name>` of a further one."""
    return dg.AssetKey(["verdict", question]) if question else VERDICT


def keys(catalog: Catalog) -> list[dg.AssetKey]:
    """Every verdict of the catalog: one a question."""
    return [key(name) for name in catalog.benchmark.questions]


def verdict_spec(catalog: Catalog, question: str, deps: list[dg.AssetKey]) -> dg.AssetSpec:
    """The verdict over every benchmark, by what they answered to one question."""
    return dg.AssetSpec(
        key(question),
        deps=deps,
        group_name=GROUP,
        description=first_paragraph(__doc__),
        kinds={"verdict"},
        code_version="1",
        skippable=True,
        metadata={"incumbent": catalog.benchmark.incumbent or catalog.models[0].id},
    )


def verdict_result(found: VerdictResult, session: str, question: str = "") -> dg.MaterializeResult:
    """The verdict as a materialization: flat figures that plot, the sentence, one picture without photos."""
    picture = f"\n\n![]( data:image/png;base64,{found.picture_png})".replace("( ", "(") if found.picture_png else ""
    return dg.MaterializeResult(
        asset_key=key(question),
        metadata={
            **found.figures,
            "verdict": found.verdict,
            "recommendation": found.recommendation or "none",
            "summary": dg.MetadataValue.md(found.markdown + picture),
            "report": dg.MetadataValue.path(found.report),
            "session": session,
        },
    )
