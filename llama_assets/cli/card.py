"""The card by hand: who has it, hold it, ask for it, and put back what the dead left. Not here: the lease (`gpu`)."""

from __future__ import annotations

import sys

import click

from llama_assets.cli.root import as_json, main, open_here, print_json, say
from llama_assets.platforms import open_platform
from llama_assets.settings import Settings


@main.group()
def lease() -> None:
    """Who has the card: look, hold it, or ask for its release."""


@lease.command("status")
@as_json
def lease_status(as_json: bool) -> None:
    """Show who holds the card, since when, what will be restored, and whether somebody would restore it."""
    platform = open_here()
    found = platform.lease(platform.catalog()).overview()
    if as_json:
        print_json(found.as_dict())
    else:
        for line in found.lines:
            click.echo(line)


@lease.command("hold")
@click.option("--minutes", type=click.FloatRange(0, 24 * 60, min_open=True), default=60.0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Print what would be taken and restored; take nothing.")
@click.option("--without-reaper", is_flag=True, help="Hold though nobody would give the card back if we died.")
def lease_hold(minutes: float, dry_run: bool, without_reaper: bool) -> None:
    """Take the card, keep it for some minutes or until Ctrl-C or `release`, give it back."""
    from llama_assets.tasks.courtesy import courteous
    from llama_assets.tasks.hold import hold, previewed

    settings = Settings.read()
    if without_reaper:
        settings = settings.model_copy(update={"without_reaper": True})
    platform = open_platform(settings)
    lease = courteous(platform, platform.catalog(), say)
    if dry_run:
        found = previewed(lease, say)
        for line in found.lines:
            click.echo(line)
        for obstacle in found.obstacles:
            click.echo(f"in the way: {obstacle}")
        sys.exit(1 if found.obstacles else 0)
    held = hold(lease, minutes, click.echo)
    click.echo(f"given back after {held.seconds:.1f} s, ended by {held.ended_by} ({held.says})")


@lease.command("release")
@click.option("--dry-run", is_flag=True, help="Only say who would be asked.")
def lease_release(dry_run: bool) -> None:
    """Ask the holder to give the card back; it does so before its next request."""
    platform = open_here()
    lease = platform.lease(platform.catalog())
    record, living = lease.status()
    if not living:
        click.echo("free; nobody to ask")
        return
    if not dry_run:
        lease.release()
    click.echo(f"{'would ask' if dry_run else 'asked'} {record.holder} to give back token {record.token}")


@main.command()
def courtesy() -> None:
    """Resume Immich's queues that a holder of the card paused and, because it died, did not resume."""
    from llama_assets.platforms import PlatformError

    platform = open_here()
    found = platform.courtesy(platform.catalog(), click.echo)
    if found is None:
        raise PlatformError("no courtesy to Immich here: set LLAMA_ASSETS_IMMICH_ADMIN_KEY, where results are mounted")
    told = found.mend()
    if not told.resumed and not told.trouble:
        click.echo("nothing is left paused by a holder that died")
    sys.exit(1 if told.trouble else 0)


@main.command()
@click.option("--once", is_flag=True, help="One pass; it waits one lifetime before it calls a named holder dead.")
@click.option("--every", type=click.FloatRange(min=1), help="A pass every so many seconds, until ended.")
@click.option("--port", type=click.IntRange(1, 65535), help="Serve figures for Prometheus here; with --every.")
def reap(once: bool, every: float | None, port: int | None) -> None:
    """Put back what a dead holder of the cluster's card left behind."""
    import signal

    from llama_assets.gpu.reaper import Reaper
    from llama_assets.platforms import kubernetes

    if once == (every is not None):
        raise click.UsageError("say either --once or --every SECONDS")
    platform = kubernetes(Settings.read())
    found = platform.catalog()
    with platform.kube as kube:
        reaper = Reaper(kube, platform.settings.namespace, found.gpu.lease, platform.card(found), say=click.echo)
        if every is not None:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container ignores it else
            reaper.every(every, port)
        reports = reaper.once()
    for report in reports:
        click.echo(report)
    if not reports:
        click.echo("nothing to put back")
    sys.exit(0 if all(report.good for report in reports) else 1)
