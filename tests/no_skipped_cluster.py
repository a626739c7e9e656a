"""Where the cluster's kit lies beside the checkout, a cluster test that skips is a failure of a run under CI.

Else a kit that does not start, or a kubeconfig that went missing, would turn the tests of the lease into green skips.
"""

from __future__ import annotations

import os

import pytest

from tests.cluster import KIT

skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What skipped for want of a cluster."""
    if report.skipped and isinstance(report.longrepr, tuple | list):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith("no cluster"):
            skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Not where tests run for another process: that one hears of them too."""
    if skipped and os.environ.get("CI") and KIT.exists() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why."""
    if skipped and os.environ.get("CI") and KIT.exists():
        terminalreporter.section("cluster tests skipped, and the kit is there", red=True)
        for line in skipped:
            terminalreporter.line(line)
