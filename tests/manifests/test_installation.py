"""`kubectl apply -k` on a real cluster: all becomes ready, holds Pod Security, runs a run, and stays as it is."""

from __future__ import annotations

import itertools
import random

import pytest
import yaml

from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.note import LABEL
from llama_assets.gpu.objects import Card, Ref
from llama_assets.gpu.record import LeaseTimes
from tests.cluster import until
from tests.faults.run_pods import ENDED, GRACE_S, WAYS, WITHOUT_ENGINE, Site
from tests.faults.seed import SEED
from tests.manifests.conftest import TENANT
from tests.manifests.installation import MANIFESTS, Installed, overlay, renamed, rendered, with_door

TIMES = LeaseTimes(
    lifetime_s=5, beat_s=1, wait_s=30, look_again_s=0.2, heart_s=15, gone_s=60, ready_s=60, api_away_s=30
)
NUDGE = "llama-assets-nudge"
SECRET = "of-this-webhook"
PUSH = {
    "event": {"action": "update", "scope": "repo.content"},
    "repo": {"type": "model", "name": "Qwen/Qwen3-VL-8B-Instruct-GGUF"},
}
POST = f"""
import json, time, urllib.error, urllib.request
def post(secret):
    asked = urllib.request.Request("http://{NUDGE}:3080", json.dumps({PUSH!r}).encode(), {{"X-Webhook-Secret": secret}})
    while True:
        try:
            return urllib.request.urlopen(asked, timeout=30).status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:  # a Service's rules come a moment after its pod is ready
            time.sleep(0.5)
print(post("another"), post("{SECRET}"))
"""
NUDGED = """query { runsOrError(filter: {tags: [{key: "llama-assets/nudged-by", value: "webhook"}]}) { ... on Runs {
  results { assetCheckSelection { name assetKey { path } } } } } }"""
CELLS = list(itertools.product(WITHOUT_ENGINE, WAYS))
SERVERS = {"dagster-webserver": 1, "dagster-daemon": 1, "dagster-postgresql": 1, "llama-assets-code": 1}
LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on InvalidSubsetError { message } } }"""
STATUS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status
  eventConnection { events { ... on MessageEvent { message } } } } } }"""


def overlays() -> list[str]:
    return sorted(path.parent.name for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))


@pytest.mark.parametrize("name", overlays())
def test_every_overlay_builds_and_holds_no_secret_and_no_llama_swap(cluster, name):
    found = rendered(MANIFESTS / "overlays" / name)
    kinds = {(thing["kind"], thing["metadata"]["name"]) for thing in found}
    assert {("Deployment", server) for server in SERVERS} <= kinds
    assert ("Deployment", "llama-swap") not in kinds, "the lease owns its replicas; the set-up Job applies it"
    if name != "demo":
        assert not [made for kind, made in kinds if kind == "Secret"], "a password belongs to whoever installs"


def test_the_image_is_said_in_one_place(tmp_path):
    found = rendered(overlay(tmp_path / "mine", "ghcr.io/me/llama-assets:v7", {"HF_ENDPOINT": "https://hub.example"}))
    images = {
        box["image"]
        for thing in found
        if thing["kind"] in ("Deployment", "Job")
        for box in thing["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"ghcr.io/me/llama-assets:v7", "postgres:17"}
    (settings,) = (thing["data"] for thing in found if thing["metadata"]["name"] == "llama-assets-settings")
    assert settings["LLAMA_ASSETS_IMAGE"] == "ghcr.io/me/llama-assets:v7", "run pods and tasks follow"
    assert settings["HF_ENDPOINT"] and settings["LLAMA_ASSETS_PLATFORM"] == "kubernetes", "one's own beside ours"


def pods(installed: Installed) -> list[dict]:
    found = installed.cluster.kube.list("Pod", installed.namespace)
    return [pod for pod in found if not any(o["kind"] == "Job" for o in pod["metadata"].get("ownerReferences", ()))]


def ready(installed: Installed) -> bool:
    found = installed.cluster.kube.list("Deployment", installed.namespace)
    counts = {thing["metadata"]["name"]: thing["status"].get("readyReplicas", 0) for thing in found}
    return {**SERVERS, "llama-assets-reaper": 2}.items() <= counts.items()


@pytest.fixture(scope="module")
def running(installed: Installed) -> Installed:
    try:
        until("every server to be ready", lambda: ready(installed), 240)
    except pytest.fail.Exception as error:
        told = installed.cluster.kubectl("get", "pods,events", "-n", installed.namespace)
        pytest.fail(f"{error}\n{told}", pytrace=False)
    return installed


def test_everything_becomes_ready_without_a_restart(running):
    restarts = {
        f"{pod['metadata']['name']}/{box['name']}": box["restartCount"]
        for pod in pods(running)
        for box in (*pod["status"].get("initContainerStatuses", ()), *pod["status"]["containerStatuses"])
    }
    assert len(restarts) >= 6 and not any(restarts.values()), restarts


def test_pod_security_restricted_is_enforced_and_no_pod_was_refused(running):
    kube = running.cluster.kube
    labels = kube.get("Namespace", None, running.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    refused = [event["message"] for event in kube.list("Event", running.namespace, fields="reason=FailedCreate")]
    assert refused == []
    for pod in pods(running):
        for box in pod["spec"]["containers"]:
            assert box["securityContext"]["readOnlyRootFilesystem"], "we go further than `restricted`"
            assert box["resources"]["requests"] and box["resources"]["limits"]["memory"]


def test_applying_it_again_changes_nothing(running):
    lines = running.apply()
    changed = [line for line in lines if not line.endswith(" unchanged") and not line.startswith("job.batch/")]
    assert changed == []


def graphql(installed: Installed, query: str, variables: dict) -> dict:
    """One request to the webserver, through the API server's proxy."""
    path = f"/api/v1/namespaces/{installed.namespace}/services/dagster-webserver:3000/proxy/graphql"
    body = {"query": query, "variables": variables}
    answer = installed.cluster.kube._json("POST", "ask the webserver", path, body=body)
    assert "errors" not in answer, answer
    return answer["data"]


def launched_hold(installed: Installed, minutes: float) -> str:
    """A run of `gpu_lease` alone, as the UI starts it."""
    params = {
        "selector": {
            "repositoryLocationName": "llama_assets", "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": ["gpu_lease"]}],
        },
        "runConfigData": {"ops": {"gpu_lease": {"config": {"minutes": minutes}}}},
        "mode": "default",
    }  # fmt: skip
    made = graphql(installed, LAUNCH, {"params": params})["launchPipelineExecution"]
    assert made["__typename"] == "LaunchRunSuccess", made
    return made["run"]["runId"]


def ended(installed: Installed, run: str) -> tuple[str, str]:
    """A run's final status, and everything it said."""

    def over() -> dict | None:
        found = graphql(installed, STATUS, {"id": run})["runOrError"]
        return found if found["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    found = until(f"the end of run {run}", over, 120)
    return found["status"], "\n".join(event.get("message", "") for event in found["eventConnection"]["events"])


@pytest.mark.long  # every time in end_to_end/test_cluster.py
def test_a_run_of_the_ui_is_a_pod_that_holds_the_card_by_a_job_and_brings_the_tenant_back(running):
    """Through every account of ours: webserver, daemon, run pod, the hold's Job, and the reaper it waits for."""
    kube = running.cluster.kube
    run = launched_hold(running, minutes=0.02)
    status, said = ended(running, run)
    assert status == "SUCCESS", said[-4000:]
    job = kube.get("Job", running.namespace, f"dagster-run-{run}")
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "llama-assets-run"
    (hold,) = kube.list("Job", running.namespace, labels=f"llama-assets/task=hold,dagster/run-id={run}")
    assert hold["spec"]["template"]["spec"]["serviceAccountName"] == "llama-assets-lease"
    tenant = kube.get("Deployment", running.tenants, TENANT)
    assert tenant["spec"]["replicas"] == 1 and LABEL not in tenant["metadata"]["labels"]
    assert "0 replicas, note r1.s0" in said


@pytest.mark.timeout(1800)
def test_a_run_pod_that_is_killed_leaves_a_hold_that_gives_the_card_back(running, request):
    """At a step and in a way that the seed chooses; with `--long` at every one in both ways, and with their table."""
    kube, minutes = running.cluster.kube, 0.15
    site = Site(kube, running.namespace, Ref("Deployment", running.tenants, TENANT), "hold")
    long = request.config.getoption("--long")
    for step, way in CELLS if long else [random.Random(SEED).choice(CELLS)]:
        run, seconds, job = site.struck(lambda: launched_hold(running, minutes), step, way, 1, minutes * 60 + GRACE_S)
        print(f"run pod, {way}, at {step}: as found after {seconds:.1f} s, {job}", flush=True)
        assert way != "kill -9" or job == ENDED
        until("the run's Job to have failed", lambda run=run: site.run_is_dead(run))
        if long:  # run monitoring looks every 20 s
            assert ended(running, run)[0] == "FAILURE"


def test_the_reaper_beats_and_brings_a_dead_holders_tenant_back_by_its_own_account(running):
    kube = running.cluster.kube

    def beat() -> str:
        return kube.get("Lease", running.namespace, "llama-assets-reaper")["spec"]["renewTime"]

    first = beat()
    until("a beat", lambda: beat() != first, 30)
    note = {"metadata": {"labels": {LABEL: "r1.s0.t1.0123abcd"}}, "spec": {"replicas": 0}}
    kube.patch("Deployment", running.tenants, TENANT, note)  # as a holder leaves it that died; nobody has the Lease
    until("the tenant", lambda: kube.get("Deployment", running.tenants, TENANT)["spec"]["replicas"] == 1, 30)
    assert LABEL not in kube.get("Deployment", running.tenants, TENANT)["metadata"]["labels"]


def test_the_door_for_webhooks_added_to_it_has_the_hub_looked_at(running, image, tmp_path):
    """From another pod, through its Service, to Dagster's web server; a POST without the secret gets nowhere."""
    kube, ours = running.cluster.kube, running.namespace
    whole = rendered(with_door(overlay(tmp_path / "door", image, {}, tenants=running.tenants)))
    door = [thing for thing in renamed(whole, ours, running.tenants) if thing["metadata"]["name"] == NUDGE]
    secret = {"metadata": {"name": "llama-assets"}, "stringData": {"webhook-secret": SECRET}}
    kube.create("Secret", ours, secret)
    running.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(door))

    def up() -> bool:
        return kube.get("Deployment", ours, NUDGE)["status"].get("readyReplicas") == 1

    until("the door to be ready", up, 120)
    answers = running.cluster.kubectl("exec", "-n", ours, "deployment/llama-assets-code", "--", "python", "-c", POST)
    assert answers.split() == ["401", "202"]
    look = until("the look", lambda: graphql(running, NUDGED, {})["runsOrError"]["results"], 60)
    assert look == [
        {"assetCheckSelection": [{"name": "followed", "assetKey": {"path": ["huggingface", "qwen3vl-8b"]}}]}
    ]


def test_the_reapers_figures_are_there_for_prometheus(running):
    (one, *_) = (pod for pod in pods(running) if pod["metadata"]["name"].startswith("llama-assets-reaper"))
    assert one["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    path = f"/api/v1/namespaces/{running.namespace}/pods/{one['metadata']['name']}:9090/proxy/metrics"
    text = running.cluster.kubectl("get", "--raw", path)
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("llama_assets_"))
    assert float(figures["llama_assets_reaper_beats_total"]) > 0
    assert float(figures["llama_assets_reaper_trouble_total"]) == 0, "its Role is enough"


def test_the_leases_account_takes_and_gives_with_the_rights_it_has(running):
    card = Card((Ref("Deployment", running.tenants, TENANT),))
    said: list[str] = []
    with running.kube("llama-assets-lease") as kube:
        lease = ClusterLease(kube, running.namespace, "llama-assets-gpu", card, TIMES)
        with lease.take("test", "rights", said.append) as held:
            assert held.still_held()
            assert running.cluster.kube.get("Deployment", running.tenants, TENANT)["spec"]["replicas"] == 0
    assert held.reports[0].became == "restored", said
