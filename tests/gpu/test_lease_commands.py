"""`llama-assets lease` on a real cluster: look, dry run, hold, ask for release."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT
from tests.gpu.place import line

PROGRAM = [sys.executable, "-m", "llama_assets.cli", "lease"]


def test_lease_status_hold_and_release_on_a_cluster(place, tmp_path):
    tenant = place.workload("asked-for")
    # The engine is somebody else's: none is scaled.
    more = {"LLAMA_ASSETS_PLATFORM": "kubernetes", "LLAMA_ASSETS_ENGINE_URL": "http://127.0.0.1:1"}
    environment = {**place.environment(tmp_path, "asked-for"), **more, "LLAMA_ASSETS_LEASE_LIFETIME_SECONDS": "6"}

    def lease(*words: str) -> str:
        done = subprocess.run([*PROGRAM, *words], env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert lease("status").startswith("free; nobody ever had the card\nno reaper has ever beaten")
    dry = lease("hold", "--minutes", "5", "--dry-run", "--without-reaper")
    assert f"{tenant}: at 1; set to 0; restored to 1" in dry and "nothing was written" in dry
    assert place.at(tenant) == (1, None)
    holding = subprocess.Popen(
        [*PROGRAM, "hold", "--minutes", "5", "--without-reaper"],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    line(holding, "gpu lease: taken, token 1")
    status = json.loads(lease("status", "--json"))
    assert status["held"] is True and status["purpose"] == "hold for 5 min"
    assert status["tenants"] == [[f"{place.namespace}/asked-for", 1]]
    assert status["workloads"][0]["restores"] == 1 and status["reaper"]["last_beat"] is None
    assert "would ask" in lease("release", "--dry-run") and holding.poll() is None
    assert "asked" in lease("release")
    assert "ended by release (asked to give the card back)" in line(holding, "given back after")
    assert holding.wait(30) == 0
    assert place.at(tenant) == (1, None)
    assert lease("status").startswith("free; last token 1\n")
