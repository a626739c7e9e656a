"""What owns the card in the demo's normal life: it wants one, answers `/ping`, and ends when told to.

    python -m llama_assets.demo.tenant --port 3003

It stands where Immich's machine learning stands and knows nothing of us. Not here: anything that uses a card.
"""

from __future__ import annotations

import argparse
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Ping(BaseHTTPRequestHandler):
    """Answers every path, as little as Immich's own `/ping`."""

    def do_GET(self) -> None:
        """`pong`."""
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"pong")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it is asked every second."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A stand-in for the tenant of the card.")
    parser.add_argument("--port", type=int, default=3003, help="where to listen (default %(default)s)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a container's first process has no other way to hear it
    ThreadingHTTPServer(("", asked.port), Ping).serve_forever()


if __name__ == "__main__":
    main()
