"""The job `collect_garbage` and its weekly schedule, off at first: what `llama-assets gc` does, seen in the UI.

It waits while somebody has the card, then asks the store's task; what went, and why, is in the run's log, and the bytes
freed are its output's metadata. Not here: what may go (`store`).
"""

import dagster as dg

from llama_assets.assets.serving import said_plainly
from llama_assets.catalog import Catalog
from llama_assets.pipes import run_task
from llama_assets.platforms import Platform
from llama_assets.tasks.keeping import Collect, Collected, in_use

WEEKLY = "0 5 * * 1"  # Mondays: after the week's benchmark, and before anybody looks


def collect_garbage(catalog: Catalog, platform: Platform) -> dg.ScheduleDefinition:
    """The schedule; its job comes with it, and can be launched by hand."""

    @dg.op(
        name="gc",
        description="Frees what nobody needs: never what is current, previous, pinned, in use or a candidate.",
        out=dg.Out(dg.Nothing),
    )
    def gc(context: dg.OpExecutionContext) -> None:
        with said_plainly():
            platform.wait_until_free(catalog, "garbage collection", context.log.info)
            used = in_use(platform.served(catalog))
        found = run_task(context, platform, Collect(in_use=used), Collected)
        for line in found.lines():
            context.log.info(line)
        removed = [dg.TableRecord(one.model_dump(include={"kind", "name", "why", "bytes"})) for one in found.removed]
        context.add_output_metadata({"freed_bytes": found.bytes, "removed": dg.MetadataValue.table(removed)})

    @dg.job(
        name="collect_garbage",
        description="Frees what nobody needs of the model volume, and says what and why; `llama-assets gc --dry-run` "
        "shows it beforehand.",
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        gc()

    return dg.ScheduleDefinition(
        name="collect_garbage",
        job=job,
        cron_schedule=WEEKLY,
        execution_timezone=catalog.automation.time_zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="What nobody needs of the model volume is freed on Mondays at five. Off at first.",
    )
