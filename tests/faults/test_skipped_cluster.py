"""A run under CI fails when a cluster test skips although the kit lies beside the checkout."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

TEST = """
import pytest
import tests.no_skipped_cluster as plugin

plugin.KIT = type(plugin.KIT)({kit!r})

def test_on_a_cluster():
    pytest.skip({reason!r})
"""


@pytest.mark.parametrize(
    ("reason", "kit", "ci", "status"),
    [
        ("no cluster: KUBECONFIG is not set", "/", "1", 1),
        ("no cluster: KUBECONFIG is not set", "/", "", 0),
        ("no cluster: KUBECONFIG is not set", "/not/there", "1", 0),
        ("no docker here", "/", "1", 0),
    ],
)
def test_a_skip_for_want_of_a_cluster_fails_ci_where_the_kit_is(reason, kit, ci, status, tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text(TEST.format(reason=reason, kit=kit))
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.no_skipped_cluster", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("the kit is there" in done.stdout) == bool(status)
