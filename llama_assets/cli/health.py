"""Whether all is well here, and whether people would be told. Not here: what each room finds wrong (`doctor`)."""

from __future__ import annotations

import sys

import click

from llama_assets.cli.root import as_json, main, print_json
from llama_assets.settings import Settings


@main.command()
@as_json
@click.option("--offline", is_flag=True, help="Do not ask the Hub.")
def doctor(as_json: bool, offline: bool) -> None:
    """Check settings, catalog, question, photos, Hub, store, engine and lease; say what to do."""
    from llama_assets.doctor import examine

    findings = list(examine(offline=offline))
    if as_json:
        print_json({"good": all(f.good for f in findings), "findings": [f.as_dict() for f in findings]})
    else:
        for finding in findings:
            click.echo(str(finding))
    sys.exit(0 if all(finding.good for finding in findings) else 1)


@main.group()
def alerts() -> None:
    """Who is told of red checks and failed runs."""


@alerts.command("test")
@as_json
def alerts_test(as_json: bool) -> None:
    """Send one message to LLAMA_ASSETS_ALERT_URL, and show what the receiver answers."""
    from llama_assets.alerts import AlertError, Message, Receiver

    settings = Settings.read()
    if settings.alert_url is None:
        raise click.UsageError("LLAMA_ASSETS_ALERT_URL is not set, so nobody is told of red checks and failed runs")
    receiver = Receiver(settings.alert_url.get_secret_value(), settings.alert_format)
    todo = "nothing; red checks and failed runs will look like this"
    message = Message("a test", "somebody asked for this message", todo, settings.ui_url or "", good=True)
    try:
        answer = receiver.send(message)
    except AlertError as error:
        if not as_json:
            raise
        print_json({"good": False, "host": receiver.host, "format": receiver.format, "answer": str(error)})
        sys.exit(error.exit_status)
    if as_json:
        print_json({"good": True, "host": receiver.host, "format": receiver.format, "answer": answer})
    else:
        click.echo(answer)
