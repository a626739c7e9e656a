"""Courtesy where people meet it: the lease of a platform, session.json, the command that mends."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from llama_assets.cli import main
from llama_assets.demo.immich import LEARNING, LoopbackImmich
from llama_assets.doctor import _immich
from llama_assets.launch import JobLauncher
from llama_assets.launch.job_body import JobTimes, job_body
from llama_assets.launch.task import Task
from llama_assets.platforms import IMMICH_ADMIN_KEY, RESULTS, PlatformError, kubernetes, open_platform
from llama_assets.settings import Settings
from llama_assets.tasks.courtesy import courteous, write_down
from tests.conftest import ROOT

RIGHTS = ("queue.read", "queue.update", "job.create")


def silent(_: str) -> None:
    pass


def test_with_an_administrators_key_the_platforms_lease_is_courteous_and_sessions_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "session"
    session.mkdir()
    (session / "session.json").write_text('{"identity": "i"}')
    monkeypatch.setenv("LLAMA_ASSETS_RESULTS", str(tmp_path / "results"))
    platform = open_platform(Settings.read())
    without = courteous(platform, platform.catalog(), silent)
    with without.take("me", "a test"):
        write_down(without, [session])
    assert "courtesy" not in json.loads((session / "session.json").read_text())
    with LoopbackImmich() as immich:
        key = immich.key(*RIGHTS, admin=True)
        monkeypatch.setenv("LLAMA_ASSETS_IMMICH_ADMIN_KEY", key)
        with pytest.raises(PlatformError, match="LLAMA_ASSETS_IMMICH_URL"):
            courteous(open_platform(Settings.read()), platform.catalog(), silent)
        monkeypatch.setenv("LLAMA_ASSETS_IMMICH_URL", immich.url)
        lease = courteous(open_platform(Settings.read()), platform.catalog(), silent)
        with lease.take("me", "a test"):
            assert immich.queues["ocr"].paused
        write_down(lease, [session])
    (told,) = json.loads((session / "session.json").read_text())["courtesy"]
    assert told["paused"] == told["resumed"] == list(LEARNING) and told["before"]["ocr"]["waiting"] == 0
    assert key not in (session / "session.json").read_text() + repr(lease)


def test_a_catalog_without_a_tenant_of_immichs_leaves_its_queues_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_ADMIN_KEY", "k")
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_URL", "http://127.0.0.1:1")
    said: list[str] = []
    platform = open_platform(Settings.read())
    assert platform.courtesy(SimpleNamespace(tenants=("ai/ollama",)), said.append) is None  # type: ignore[arg-type]
    assert "its queues go on" in said[0]


def test_the_command_resumes_what_a_dead_holder_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ASSETS_RESULTS", str(tmp_path))
    none = CliRunner().invoke(main, ["courtesy"])
    assert none.exit_code == 2 and "LLAMA_ASSETS_IMMICH_ADMIN_KEY" in none.output
    with LoopbackImmich() as immich:
        monkeypatch.setenv("LLAMA_ASSETS_IMMICH_ADMIN_KEY", immich.key(*RIGHTS, admin=True))
        monkeypatch.setenv("LLAMA_ASSETS_IMMICH_URL", immich.url)
        (tmp_path / "courtesy").mkdir()
        left = {"queues": ["ocr"], "address": immich.url, "at": "", "holder": "x"}
        (tmp_path / "courtesy" / "dead.json").write_text(json.dumps(left))
        immich.queues["ocr"].paused = True
        immich.fault("queues/ocr", 500, times=2)
        failed = CliRunner().invoke(main, ["courtesy"])
        assert failed.exit_code == 1 and immich.queues["ocr"].paused
        mended = CliRunner().invoke(main, ["courtesy"])
        assert mended.exit_code == 0 and "ocr resumed" in mended.output and not immich.queues["ocr"].paused
        assert "nothing is left" in CliRunner().invoke(main, ["courtesy"]).output


def test_doctor_names_queues_that_a_dead_holder_left_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ASSETS_RESULTS", str(tmp_path))
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_ADMIN_KEY", "k")
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_URL", "http://127.0.0.1:1")
    platform = open_platform(Settings.read())
    assert [finding.good for finding in _immich(platform, platform.catalog())] == [True]
    (tmp_path / "courtesy").mkdir()
    left = {"queues": ["ocr"], "address": "http://127.0.0.1:1", "at": "", "holder": "x"}
    (tmp_path / "courtesy" / "dead.json").write_text(json.dumps(left))
    (finding,) = _immich(platform, platform.catalog())
    assert not finding.good and "ocr" in finding.says and "llama-assets courtesy" in finding.says


def test_keys_reach_only_the_jobs_that_need_them_and_never_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "URL": "http://immich:2283", "ALBUM": "Travel", "KEY": "sesame-1", "ADMIN_KEY": "sesame-2",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LLAMA_ASSETS_IMMICH_{name}", value)
    platform = kubernetes(Settings.read())
    assert isinstance(platform.launcher, JobLauncher)
    found = {}
    for kind in ("download", "benchmark", "hold", "verdict"):
        body = job_body(Task(kind, "r", "s", {}), {}, platform.launcher._pods, JobTimes())
        assert "sesame" not in json.dumps(body)
        variables = {one["name"]: one for one in body["spec"]["template"]["spec"]["containers"][0]["env"]}
        found[kind] = {name for name in variables if name.startswith("LLAMA_ASSETS_IMMICH") and "KEY" in name}
        assert variables["LLAMA_ASSETS_IMMICH_ALBUM"]["value"] == "Travel"
        claims = {one.get("persistentVolumeClaim", {}).get("claimName") for one in _volumes(body)}
        assert "llama-photos" not in claims
    both = {"LLAMA_ASSETS_IMMICH_KEY", "LLAMA_ASSETS_IMMICH_ADMIN_KEY"}
    assert found == {"download": set(), "benchmark": both, "hold": {"LLAMA_ASSETS_IMMICH_ADMIN_KEY"}, "verdict": set()}


def test_the_cron_job_runs_the_command_where_jobs_keep_results_with_the_same_secret() -> None:
    manifest = yaml.safe_load((ROOT / "manifests" / "tenants" / "immich" / "courtesy.yaml").read_text())
    pod = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][0] == "llama-assets" and container["command"][1] in main.commands  # type: ignore[attr-defined]
    key = container["env"][1]["valueFrom"]["secretKeyRef"]
    assert (key["name"], key["key"]) == (IMMICH_ADMIN_KEY.secret, IMMICH_ADMIN_KEY.key)
    assert {one["name"] for one in container["env"]} <= set(Settings.variables())
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]}
    assert container["env"][0]["value"] == mounts["results"] == str(RESULTS) and volumes["results"] == "llama-results"


def _volumes(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body["spec"]["template"]["spec"]["volumes"]
    return found
