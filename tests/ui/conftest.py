"""Dagster's web server on the demo's instance, and a browser that reports what a person would not see."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.conftest import ROOT
from tests.demo_run import DemoRun

PICTURES = ROOT / "docs" / "pictures"
SIZE = {"width": 1400, "height": 900}
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without these Chromium looks for its maker's servers at every start.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIMIT_MS = 60_000  # the first page of a cold server on a busy machine
expect.set_options(timeout=LIMIT_MS)


@dataclass(frozen=True)
class WebServer:
    """Dagster's web server; `query` asks its GraphQL."""

    address: str

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        reply = httpx.post(f"{self.address}/graphql", json={"query": text, "variables": variables}, timeout=60)
        answer = reply.raise_for_status().json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


@dataclass
class Tab:
    """A page, and what went wrong behind it: errors of the console, requests that left this machine."""

    page: Page
    address: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        self.page.on("request", self._asked)

    def open(self, path: str) -> Page:
        # The UI polls, so the network is never idle: whoever opens a page waits for what it should show.
        self.page.goto(self.address + path, wait_until="domcontentloaded")
        return self.page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:", "file:")):
            self.wrong.append(f"request: {request.url}")


@pytest.fixture(scope="session")
def history(request: pytest.FixtureRequest, demo_run: DemoRun) -> DemoRun:
    """The demo; with some sessions more when pictures are kept, so that plots have lines."""
    if request.config.getoption("--keep-pictures"):
        for _ in range(4):
            again = demo_run.run(
                sys.executable, "-m", "llama_assets.demo", "--select", "group:benchmark or key:verdict"
            )
            assert again.returncode == 0, again.stdout[-2000:]
    return demo_run


@pytest.fixture(scope="session")
def server(history: DemoRun) -> Iterator[WebServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["dagster-webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    log = history.folder / "webserver.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=history.folder, env=history.environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address, process, log)
        yield WebServer(address)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{address}/server_info").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"dagster-webserver did not come up:\n{log.read_text()[-3000:]}", pytrace=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Browser, server: WebServer) -> Iterator[Tab]:
    """A new tab on the UI. A test that leaves errors behind it fails, whatever it looked at."""
    context = browser.new_context(viewport=SIZE)
    context.set_default_timeout(LIMIT_MS)
    opened = Tab(context.new_page(), server.address)
    yield opened
    context.close()
    # Pods that come and go beside us are new networks to Chromium, which asks again.
    assert not [what for what in opened.wrong if "ERR_NETWORK_CHANGED" not in what]


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keeps what the page shows for README, when asked to."""

    def keep(page: Page, name: str) -> None:
        if request.config.getoption("--keep-pictures"):
            page.mouse.move(0, 0)
            page.wait_for_timeout(1500)  # for the eye: animations have ended
            page.screenshot(path=PICTURES / f"{name}.png")

    return keep
