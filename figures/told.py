"""Who is told of a simulated year: a receiver on loopback, what it took by kind, and what it was told twice.

Messages are read as a person reads them: a check that is red or well again, a run that failed. Not here: what is told
(`automation.telling`), what happens in the year (`year.py`).
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TURNED = re.compile(r"(\S+): (\w+) is (red|well again|no longer an error)")
FAILED = re.compile(r"run ([0-9a-f]{8}) of .*? failed")


class Told:
    """A Slack-compatible webhook that takes everything. `texts` are its messages, oldest first."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"told": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/figure"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def by_kind(self) -> dict[str, int]:
        """How many things were told, by check and state, and failed runs."""
        kinds: Counter[str] = Counter()
        for text in self.texts:
            kinds.update(f"{check} {state}" for _, check, state in TURNED.findall(text))
            kinds["run failed"] += len(FAILED.findall(text))
        return {"messages": len(self.texts), **dict(sorted(kinds.items()))}

    def repeated(self) -> list[str]:
        """What was told though nothing had changed since it was told before: a check's state, a run."""
        last: dict[str, str] = {}
        runs: set[str] = set()
        again = []
        for text in self.texts:
            for asset, check, state in TURNED.findall(text):
                name, red = f"{asset.lstrip('*')}:{check}", str(state == "red")
                if last.get(name, "False") == red:
                    again.append(f"{name} {state}")
                last[name] = red
            for run in FAILED.findall(text):
                if run in runs:
                    again.append(f"run {run}")
                runs.add(run)
        return again


class _Handler(BaseHTTPRequestHandler):
    told: Told

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.texts.append(str(body["text"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        return
