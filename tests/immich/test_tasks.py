"""Courtesy where people meet it: the lease of a platform, session.json, the command that mends."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from llama_assets.cli import main
from llama_assets.demo.immich import LEARNING, LoopbackImmich
from llama_assets.platforms import PlatformError, open_platform
from llama_assets.settings import Settings
from llama_assets.tasks.courtesy import courteous, write_down

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
