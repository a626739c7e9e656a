"""`python -m llama_assets.tasks.nudge`: a door for the Hub's webhook, which only makes the next look come sooner.

Asks Dagster's web server to execute the check `followed` of the models that follow the repo, which looks and reports.
Whatever is lost here the sensor's next tick finds: a nudge is not stored and not tried again. It needs an address that
the Hub reaches, so it is for those who have one. Not here: what a webhook says (`hub.webhook`), looking (`assets`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click

from llama_assets import catalog as catalogs
from llama_assets.catalog import Catalog
from llama_assets.hub.webhook import SECRET_HEADER, is_ours, model_repo
from llama_assets.settings import Settings
from llama_assets.tasks.trying import followed

MOST_BYTES = 1 << 20
REST_S = 30.0  # a look is a run: a push of many commits is one
LAUNCH = """
mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }
"""


class Nudges:
    """Models to look at, in a thread of its own: all that came together are one look, and then it rests."""

    def __init__(self, look: Callable[[Sequence[str]], None], rest_s: float = REST_S) -> None:
        self._look, self._rest_s = look, rest_s
        self._models: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def add(self, models: Sequence[str]) -> None:
        """Look at these soon."""
        for model in models:
            self._models.put(model)

    def _work(self) -> None:
        while True:
            models = {self._models.get()}
            while not self._models.empty():
                models.add(self._models.get())
            self._look(sorted(models))
            time.sleep(self._rest_s)


class Door(ThreadingHTTPServer):
    """Listens for webhooks; `nudged` gets the ids of the models and candidates that follow the repo."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], catalog: Catalog, secret: str, nudged: Callable[[Sequence[str]], None]
    ) -> None:
        super().__init__(address, _Handler)
        self.catalog, self.secret, self.nudged = catalog, secret, nudged

    def take(self, sent: str | None, body: bytes) -> int:
        """The status that a POST is answered with."""
        if not is_ours(sent, self.secret):
            return 401
        try:
            repo = model_repo(body)
        except ValueError:
            return 400
        models = [model.id for model in followed(self.catalog.models) if repo and model.repo.lower() == repo.lower()]
        if models:
            self.nudged(models)
        return 202 if models else 204


class _Handler(BaseHTTPRequestHandler):
    server: Door
    timeout = 10.0

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            status = 413 if length.isdigit() else 411
        else:
            status = self.server.take(self.headers.get(SECRET_HEADER), self.rfile.read(int(length)))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: whoever finds the door would fill the log."""


def launch(webserver: str, models: Sequence[str]) -> str:
    """Execute `followed` of these models by Dagster's GraphQL; a sentence with the run's id, or why there is none."""
    import httpx

    checks = [{"assetKey": {"path": ["huggingface", *model.split("@")]}, "name": "followed"} for model in models]
    params = {
        "selector": {
            "repositoryLocationName": "llama_assets",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [],
            "assetCheckSelection": checks,
        },
        "mode": "default",
        "executionMetadata": {"tags": [{"key": "llama-assets/nudged-by", "value": "webhook"}]},
    }
    named = ", ".join(models)
    try:
        reply = httpx.post(f"{webserver}/graphql", json={"query": LAUNCH, "variables": {"params": params}}, timeout=60)
        said = reply.raise_for_status().json()
        answer = said["data"]["launchPipelineExecution"]
        if answer["__typename"] == "LaunchRunSuccess":
            return f"{named}: run {answer['run']['runId']} looks at the Hub"
        why = answer.get("message", answer["__typename"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
    return f"{named}: {webserver} starts no look ({why}); the sensor's next tick will"


@click.command()
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=3080, show_default=True, help="Port to listen on.")
@click.option("--webserver", default="http://127.0.0.1:3000", show_default=True, help="Dagster's web server.")
def main(host: str, port: int, webserver: str) -> None:
    """Listen for webhooks of the Hub that bear LLAMA_ASSETS_WEBHOOK_SECRET, and have the named models looked at."""
    settings = Settings.read()
    if settings.webhook_secret is None:
        raise click.UsageError("LLAMA_ASSETS_WEBHOOK_SECRET is not set: choose one, and enter it at the Hub's webhook")
    nudges = Nudges(lambda models: click.echo(launch(webserver.rstrip("/"), models)))
    secret = settings.webhook_secret.get_secret_value()
    with Door((host, port), catalogs.load(settings.catalog), secret, nudges.add) as door:
        click.echo(f"listening on {host}:{door.server_port} for webhooks; looks are asked of {webserver}")
        door.serve_forever()


if __name__ == "__main__":
    main()
