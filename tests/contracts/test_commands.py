"""The commands that others rely on, as processes in a folder that looks like the checkout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from llama_assets import catalog as catalogs
from tests.conftest import ROOT
from tests.demo_run import DemoRun, own_environment, working_folder


@pytest.fixture
def copied(demo_run: DemoRun, tmp_path: Path) -> DemoRun:
    """The finished demo in a folder of its own; its hub is down."""
    return demo_run.copy(tmp_path / "copy")


def test_dagster_asset_materialize_with_the_hub_down_keeps_the_file_and_turns_updated_red(copied):
    done = copied.run(
        "dagster", "asset", "materialize", "--select", "gguf/qwen3vl-8b", "-m", "llama_assets.definitions"
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert "stays current and served" in said
    assert "HF_ENDPOINT" in said, "the way out"


@pytest.mark.long
def test_dagster_asset_materialize_fails_with_one_sentence_when_there_is_no_file_at_all(copied):
    shutil.rmtree(copied.home / "store")
    done = copied.run(
        "dagster", "asset", "materialize", "--select", "gguf/qwen3vl-8b", "-m", "llama_assets.definitions"
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "to run the rest: --select" in said and "no earlier file is current" in said


def test_dg_check_defs(tmp_path):
    for name in ("pyproject.toml", "dagster.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "llama_assets").symlink_to(ROOT / "llama_assets")
    done = subprocess.run(["dg", "check", "defs"], cwd=tmp_path, env=own_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All definitions loaded successfully" in done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-w", "workspace.yaml")], ids=["pyproject", "workspace"])
def test_dagster_dev_loads_the_location_under_its_contract_name(tmp_path, options):
    folder = working_folder(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "llama_assets").symlink_to(ROOT / "llama_assets")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "dev.log").open("w")
    process = subprocess.Popen(
        ["dagster", "dev", *options, "--port", str(port)],
        cwd=folder, env=own_environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        found = _locations(port, process, folder / "dev.log")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    assert found == {"llama_assets": 13}, "location name and number of assets"


def _locations(port: int, process: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } assetNodes { id } } } } }"
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            nodes = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": query}, timeout=60).json()["data"]
        except httpx.HTTPError:
            time.sleep(0.3)
            continue
        if nodes["repositoriesOrError"].get("nodes"):
            return {n["location"]["name"]: len(n["assetNodes"]) for n in nodes["repositoriesOrError"]["nodes"]}
        time.sleep(0.3)
    raise AssertionError(f"no location after 300 s:\n{log.read_text()[-3000:]}")


def test_location_name_is_the_same_everywhere():
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    names = {
        project["dagster"]["code_location_name"],
        project["dg"]["project"]["code_location_name"],
        entry["python_module"]["location_name"],
    }
    assert names == {"llama_assets"}


def test_doctor_is_good_on_the_demo_and_bad_where_photos_are_missing(demo_run):
    good = demo_run.run("llama-assets", "doctor", "--offline", "--json")
    assert good.returncode == 0, good.stdout
    findings = json.loads(good.stdout)["findings"]
    assert {f["about"] for f in findings} == {"env", "models", "alerts", "asked", "photos", "store", "engine", "lease"}
    environment = {k: v for k, v in demo_run.environment.items() if k != "LLAMA_ASSETS_PHOTOS"}
    bad = DemoRun(demo_run.folder, demo_run.home, "", 0, environment).run("llama-assets", "doctor", "--offline")
    assert bad.returncode == 1
    assert "BAD photos LLAMA_ASSETS_PHOTOS is not set" in bad.stdout


def test_doctor_names_a_hub_that_is_down(demo_run):
    done = demo_run.run("llama-assets", "doctor")
    assert done.returncode == 1
    assert done.stdout.count("BAD hub") == 3 and "127.0.0.1:9" in done.stdout


def test_judge_prints_one_object_with_the_contracts_keys(demo_run):
    done = demo_run.run("llama-assets", "judge", str(demo_run.session), "--json")
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert {"models", "pairs", "ranking", "warnings", "quiet", "not_judged", "incumbent", "recommendation"} <= set(
        found
    )
    assert found["incumbent"] == "qwen3vl-8b"
    assert {"rows", "ok", "parsed", "schema_valid", "latency_p50_s", "latency_p95_s"} <= set(
        found["models"]["qwen3vl-4b"]
    )
    assert {pair["b"] for pair in found["pairs"]} == {"minicpm-v-4-5", "qwen3vl-4b"}


def test_judge_takes_foreign_rows_and_says_what_they_cannot_answer(demo_run, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("model,photo,seconds\n" + "".join(f"{m},p{n},{1 + n % 3}\n" for m in "ab" for n in range(40)))
    done = demo_run.run("llama-assets", "judge", str(rows), "--json", "--incumbent", "b")
    found = json.loads(done.stdout)
    assert found["incumbent"] == "b" and found["not_judged"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("judge", "nowhere.csv"), 2, "nowhere.csv"),
        (("judge",), 2, "ROWS"),
        (("report", "nowhere"), 2, "nowhere"),
        (("lease", "hold", "--minutes", "0"), 2, "minutes"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_wrong_use_is_status_2_and_one_sentence(demo_run, arguments, status, says):
    done = demo_run.run("llama-assets", *arguments)
    assert done.returncode == status
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_setting_is_one_line_with_variable_value_and_what_is_allowed(demo_run):
    environment = {**demo_run.environment, "LLAMA_ASSETS_PLATFORM": "moon"}
    done = DemoRun(demo_run.folder, demo_run.home, "", 0, environment).run("llama-assets", "lease", "status")
    assert done.returncode == 2
    assert done.stderr.strip() == "LLAMA_ASSETS_PLATFORM='moon': input should be 'local' or 'kubernetes'"


def test_report_is_written_and_without_photos_holds_none(demo_run, tmp_path):
    page = tmp_path / "page.html"
    done = demo_run.run("llama-assets", "report", "--without-photos", "--output", str(page))
    assert done.returncode == 0 and done.stdout.strip() == str(page)
    photos = {line["photo"] for line in _rows(demo_run.session)}
    text = page.read_text()
    assert "data:image/jpeg" not in text and not [name for name in photos if name in text]


def _rows(session: Path) -> list[dict[str, object]]:
    return [json.loads(line) for file in session.glob("rows-*.jsonl") for line in file.read_text().splitlines()]


def test_lease_hold_status_release_from_three_processes(copied):
    held = subprocess.Popen(
        ["llama-assets", "lease", "hold", "--minutes", "5"],
        cwd=copied.folder, env=copied.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert held.stdout is not None and "taken, token" in held.stdout.readline()
    status = json.loads(copied.run("llama-assets", "lease", "status", "--json").stdout)
    assert status["held"] is True and status["purpose"] == "hold for 5 min"
    dry = copied.run("llama-assets", "lease", "release", "--dry-run")
    assert "would ask" in dry.stdout and held.poll() is None
    assert "asked" in copied.run("llama-assets", "lease", "release").stdout
    rest, _ = held.communicate(timeout=120)
    assert held.returncode == 0 and "ended by release" in rest
    assert json.loads(copied.run("llama-assets", "lease", "status", "--json").stdout)["held"] is False


def test_the_wheel_works_without_the_checkout(tmp_path):
    """Catalog, question, templates and the worker are in it."""
    build = ["python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, env=own_environment(), check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = ["python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, env=own_environment(), check=True)
    program = (
        "import llama_assets, llama_assets.definitions, sys\n"
        "from llama_assets import catalog; from pathlib import Path\n"
        "from llama_assets.verdict.report import TEMPLATES; from llama_assets.engine.process import WORKER\n"
        "from llama_assets.bench.question import Question\n"
        "assert Path(llama_assets.__file__).is_relative_to(sys.argv[1]), llama_assets.__file__\n"
        "found = catalog.load(); Question.load(found.benchmark.question); print(len(found.models))\n"
        "assert list(TEMPLATES.iterdir()) and Path(WORKER[-1]).is_file()\n"
        "llama_assets.definitions.defs().get_repository_def()\n"
    )
    environment = {**own_environment(), "PYTHONPATH": str(site)}
    done = subprocess.run(
        ["python", "-c", program, str(site)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(len(catalogs.load().models))
