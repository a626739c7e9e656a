"""End to end on a real cluster: from a laptop and from the UI, on an exclusive and on a shared card, with two engines.

One installation of `manifests/overlays/demo`: Dagster in one namespace, the tenant with the only card in another, tiny
models from a hub in a pod, real Jobs, real llama.cpp. The card is watched from beginning to end.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess

import pytest
import yaml

from llama_assets.bench.record import Record
from llama_assets.bench.rows import Row, read_rows
from llama_assets.demo.cluster_install import LABEL, NAMESPACE, TENANT, TENANT_NAMESPACE, NotOurs
from llama_assets.gpu.note import LABEL as NOTE
from llama_assets.gpu.objects import Ref
from tests.cluster import until
from tests.end_to_end.on_a_cluster import MODELS, World, small_catalog
from tests.faults.run_pods import ENDED, STEPS, WAYS, Site
from tests.manifests.calls import against_roles

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]  # the number of cards and the API server are everybody's
GPU = "llama-assets-gpu"
GRAPH = {
    *(f"{stage}/{model}" for stage in ("gguf", "benchmark") for model in MODELS), "llama_swap", "gpu_lease", "verdict",
}  # fmt: skip


def is_as_it_was(world: World) -> None:
    """The tenant has its card and no note, llama-swap rests, no Job is left that works."""
    tenant = world.tenant()
    assert tenant["spec"]["replicas"] == 1 and NOTE not in tenant["metadata"]["labels"]
    until("the tenant to be ready", lambda: world.tenant()["status"].get("readyReplicas") == 1)
    leases = world.cluster.kube.list("Lease", NAMESPACE)  # there is none before somebody first takes the card
    assert not [lease for lease in leases if lease["metadata"]["name"] == GPU and lease["spec"].get("holderIdentity")]
    until("no Job that works", lambda: not any(job["status"].get("active") for job in world.jobs("benchmark")), 30)


def was_at_zero(said: str) -> bool:
    return bool(re.search(r"immich-machine-learning.*\b0\b", said))


@pytest.mark.long
def test_turned_on_automation_fetches_serves_measures_and_judges_by_itself_and_once(world: World):
    """By the cluster's own daemon, in run pods, from an empty store."""
    world.watch.again()
    with world.switched_on("automation"):
        until("the verdict", lambda: world.assets()["verdict"]["run"], 600)
        until("no run at work", lambda: not world.at_work(), 120)
        ended = world.automatic_runs()
        world.two_more_ticks("automation")
        assert world.automatic_runs() == ended, "nothing is due any more"
    assert {status for status, _ in ended} == {"SUCCESS"}, ended
    measured = [assets for _, assets in ended if any(asset.startswith("benchmark/") for asset in assets)]
    assert [asset for assets in measured for asset in sorted(assets)] == sorted(
        {"llama_swap", "gpu_lease", "verdict", *(f"benchmark/{model}" for model in MODELS)}
    )
    is_as_it_was(world)
    assert world.watch.most == 1, world.watch.seen


def test_the_whole_graph_from_outside(world: World, tmp_path):
    catalog = small_catalog(tmp_path / "catalog")
    world.watch.again()
    with world.timed("outside_s"):
        status, output = world.materialize(world.environment(catalog, world.standin), "*")
    assert status == 0, output[-6000:]
    found = world.assets()
    runs = {found[name]["run"] for name in GRAPH}
    assert len(runs) == 1 and None not in runs, found
    assert "VERDICT  session" in output
    for model in MODELS:
        assert found[f"benchmark/{model}"]["rows"] == 8
        world.timings[f"outside lease_efficiency {model}"] = found[f"benchmark/{model}"]["lease_efficiency"]
    is_as_it_was(world)
    assert world.engine()["spec"]["replicas"] == 0, "on an exclusive card llama-swap rests at 0"
    assert world.watch.most == 1, world.watch.seen
    assert any("llama-swap" in line for line in world.watch.seen), "the engine had the card meanwhile"


def test_a_command_killed_in_the_middle_of_a_benchmark_loses_neither_rows_nor_the_tenant(world: World, tmp_path):
    catalog = small_catalog(tmp_path / "catalog", MODELS[:1])
    environment = world.environment(catalog, world.standin)
    before = len(world.jobs("benchmark"))
    world.watch.again()
    running = world.started(environment, f'key:"benchmark/{MODELS[0]}"')
    assert running.stdout is not None
    said = ""
    for line in running.stdout:
        said += line
        if "turn 1 of" in line:
            break
    else:
        pytest.fail(said[-4000:])
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    (job,) = world.jobs("benchmark")[before:]
    name = job["metadata"]["name"]

    def ends() -> str | None:
        conditions = world.cluster.kube.get("Job", "llama-cpp", name)["status"].get("conditions") or []
        return next((one["type"] for one in conditions if one["type"] in ("Complete", "Failed")), None)

    assert until("the Job's own end", ends, 180) == "Complete"
    is_as_it_was(world)
    assert world.watch.most == 1, world.watch.seen
    status, output = world.materialize(environment, "verdict")
    assert status == 0, output[-4000:]
    (session,) = set(re.findall(r"session (\S+): \d+ questions", said))
    found = world.assets()["verdict"]
    assert found["session"].endswith(session), "the next run judges the rows that the killed one's Job wrote"
    assert world.jobs("benchmark")[-1]["metadata"]["name"] == name, "and asks nothing for it"


def test_what_the_catalog_tries_is_served_for_its_measurement_only(world: World, tmp_path):
    """A candidate of another context, on an engine that reads what it serves from a ConfigMap."""
    catalog = small_catalog(tmp_path / "catalog", MODELS[:1], candidate={"context": 2048})
    environment = world.environment(catalog, world.standin)
    world.watch.again()
    status, output = world.materialize(environment, f'key:"gguf/{MODELS[0]}" or key:"llama_swap"')
    assert status == 0, output[-6000:]
    before = world.cluster.kube.get("ConfigMap", NAMESPACE, "llama-swap-config")["data"]
    status, output = world.materialize(environment, f'key:"benchmark/{MODELS[0]}" or key:"verdict"')
    assert status == 0, output[-6000:]
    found = world.assets()[f"benchmark/{MODELS[0]}"]
    arm = found["candidate"]
    assert arm.startswith(f"{MODELS[0]}@") and found["candidate_decision"] in ("wait", "recommend", "reject")
    rows = read_rows([world.sessions()[-1]])
    assert {(row.model, row.status) for row in rows} == {(MODELS[0], "ok"), (arm, "ok")} and len(rows) == 16
    assert world.cluster.kube.get("ConfigMap", NAMESPACE, "llama-swap-config")["data"] == before
    is_as_it_was(world)
    assert world.watch.most == 1, world.watch.seen


@pytest.mark.long
def test_another_image_of_the_engine_is_measured_under_leases_of_its_own_and_the_chosen_one_is_put_back(
    world: World, tmp_path
):
    """Four blocks are five leases: chosen, tried, chosen, tried, chosen. The tenant has its card between them."""
    tried = world.another_standin(tmp_path / "image")
    catalog = small_catalog(tmp_path / "catalog", MODELS[:1], engine={"candidate_image": tried})
    environment = world.environment(catalog, world.standin)
    status, output = world.materialize(environment, f'key:"gguf/{MODELS[0]}" or key:"llama_swap"')
    assert status == 0, output[-6000:]
    before = world.cluster.kube.get("ConfigMap", NAMESPACE, "llama-swap-config")["data"]
    world.watch.again()
    seen, jobs = len(world.watch.seen), len(world.jobs("benchmark"))
    with world.timed("engine_candidate_s"):
        status, output = world.materialize(environment, f'key:"benchmark/{MODELS[0]}" or key:"verdict"')
    assert status == 0, output[-6000:]
    found, arm = world.assets()[f"benchmark/{MODELS[0]}"], f"{MODELS[0]}@engine"
    assert (found["engine_candidate"], found["engine_candidate_decision"]) == (arm, "wait"), (
        "eight photos settle nothing"
    )
    assert found["checks"]["image_is_pinned"][0] == "SUCCEEDED"
    session = world.sessions()[-1]
    rows, record = read_rows([session]), Record.read(session)
    assert {(row.model, row.status) for row in rows} == {(MODELS[0], "ok"), (arm, "ok")} and len(rows) == 16
    by_lease = {
        token: {row.model for row in rows if row.lease_token == token} for token in {r.lease_token for r in rows}
    }
    assert [by_lease[token] for token in sorted(by_lease)] == [{MODELS[0]}, {arm}, {MODELS[0]}, {arm}, {MODELS[0]}]
    ran = {name: facts["engine"]["image"].partition("@")[2] for name, facts in record.values["arms"].items()}
    assert ran == {name: image.partition("@")[2] for name, image in ((MODELS[0], world.standin), (arm, tried))}
    assert record.finished and record.arm(arm)["decided"]["done"] and "VERDICT  session" in output
    had = ["engine" if "llama-swap" in line else "tenant" for line in world.watch.seen[seen:] if "[]" not in line]
    assert [who for who, _ in itertools.groupby(had)] == ["engine", "tenant"] * 5, world.watch.seen[seen:]
    assert len(world.jobs("benchmark")) == jobs + 5
    (container,) = world.engine()["spec"]["template"]["spec"]["containers"]
    assert container["image"] == world.standin, "the chosen one is put back"
    assert world.cluster.kube.get("ConfigMap", NAMESPACE, "llama-swap-config")["data"] == before
    is_as_it_was(world)
    assert world.watch.most == 1, world.watch.seen


@pytest.mark.long
def test_an_image_of_the_engine_that_cannot_be_pulled_costs_one_lease_and_the_model_is_measured_all_the_same(
    world: World, tmp_path
):
    tried = f"registry.invalid/no/such@sha256:{'0' * 64}"
    catalog = small_catalog(tmp_path / "catalog", MODELS[:1], engine={"candidate_image": tried})
    world.watch.again()
    status, output = world.materialize(world.environment(catalog, world.standin), f'+key:"benchmark/{MODELS[0]}"')
    assert status == 0, output[-6000:]
    found = world.assets()[f"benchmark/{MODELS[0]}"]
    assert (found["rows"], found["engine_candidate_decision"]) == (8, "wait")
    assert (
        "its engine did not come up" in found["engine_candidate_reason"] and tried in found["engine_candidate_reason"]
    )
    record = Record.read(world.sessions()[-1])
    assert len(record.values["leases"]) == 3 and record.finished
    (container,) = world.engine()["spec"]["template"]["spec"]["containers"]
    assert container["image"] == world.standin
    is_as_it_was(world)
    assert world.watch.most == 1, world.watch.seen


def test_the_whole_graph_from_the_ui_with_llama_cpps_own_router(world: World):
    """Nothing of the engine is a stand-in here; its image is pinned, and the pod that answered had that very one."""
    world.watch.again()
    with world.timed("inside_s"):
        run = world.launch_everything()
        status, said = world.ended(run)
    assert status == "SUCCESS", said[-6000:]
    found = world.assets()
    assert {name: found[name]["run"] for name in GRAPH} == dict.fromkeys(GRAPH, run)
    pod = world.cluster.kube.get("Job", "llama-cpp", f"dagster-run-{run}")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "llama-assets-run", "run by K8sRunLauncher"
    for model in MODELS:
        world.timings[f"inside lease_efficiency {model}"] = found[f"benchmark/{model}"]["lease_efficiency"]
    is_as_it_was(world)
    (container,) = world.engine()["spec"]["template"]["spec"]["containers"]
    assert container["image"] == world.router and "llama-server" in container["command"]
    digest = world.router.partition("@")[2]
    for model in MODELS:
        status, says = found[f"benchmark/{model}"]["checks"]["image_is_pinned"]
        assert status == "SUCCEEDED" and says.count(digest) == 2, "what ran is what is pinned"
    assert world.engine()["spec"]["replicas"] == 0
    assert world.watch.most == 1, world.watch.seen


@pytest.mark.timeout(3600)
def test_a_run_pod_killed_beside_its_benchmark_takes_neither_rows_nor_the_tenant_with_it(world: World, request):
    """In every step of the benchmark's Job, which has the card and which the run pod only follows."""
    if not request.config.getoption("--long"):
        pytest.skip("half an hour of killing; `--long` does it, and tests/manifests does one of a hold")
    world.cancel_started()
    status, said = world.ended(world.launch(f"gguf/{MODELS[0]}", "llama_swap"))
    assert status == "SUCCESS", said[-4000:]
    engine = Ref("Deployment", NAMESPACE, "llama-swap")
    site = Site(
        world.cluster.kube, NAMESPACE, Ref("Deployment", TENANT_NAMESPACE, TENANT), "benchmark", engine, world.words
    )
    for step, way in itertools.product(STEPS, WAYS):
        world.watch.again()
        run, seconds, job = site.struck(lambda: world.launch(f"benchmark/{MODELS[0]}"), step, way, 1, 240)
        is_as_it_was(world)
        assert world.watch.most == 1, world.watch.seen
        torn: list[str] = []
        rows: list[Row] = []  # none where the first Job of all was deleted before it began a session
        for session in world.sessions():
            rows = read_rows(session, say=torn.append) if any(session.glob("rows*")) else []
        assert not torn
        print(f"run pod, {way}, at {step}: as found after {seconds:.1f} s, {job}, {len(rows)} rows", flush=True)
        if job == ENDED:
            assert len(rows) == 8
        assert world.ended(run)[0] == "FAILURE"


def test_on_a_shared_card_llama_swap_stays(world: World, tmp_path):
    """Time-slicing is two cards of one: the tenant goes all the same, because memory is not sliced."""
    catalog = small_catalog(tmp_path / "catalog", MODELS[:1], gpu={"sharing": "shared"})
    kit = str(world.cluster.kit)
    subprocess.run([kit, "gpus", "2"], check=True, timeout=120)
    try:
        world.cluster.kubectl("scale", "deployment", "llama-swap", "-n", "llama-cpp", "--replicas=1")
        until("both on the card", lambda: len(world.watch.using) == 2)
        with world.timed("shared_s"):
            select = f"llama_swap,gpu_lease,benchmark/{MODELS[0]},verdict"
            status, output = world.materialize(world.environment(catalog, world.standin), select)
        assert status == 0, output[-6000:]
        is_as_it_was(world)
        assert world.engine()["spec"]["replicas"] == 1, "there is room for both"
        until("both on the card again", lambda: len(world.watch.using) == 2)
    finally:
        world.cluster.kubectl("scale", "deployment", "llama-swap", "-n", "llama-cpp", "--replicas=0")
        subprocess.run([kit, "gpus", "1"], check=True, timeout=120)


def test_what_the_demo_did_not_make_it_neither_goes_over_nor_removes(world: World):
    kube = world.cluster.kube
    kube.patch("Namespace", None, TENANT_NAMESPACE, {"metadata": {"labels": {LABEL: None}}})
    try:
        with pytest.raises(NotOurs, match=r"namespace immich exists on .* and was not made by this demo"):
            world.installation.refuse_strangers()
        assert not world.installation._is_ours(TENANT_NAMESPACE)
    finally:
        kube.patch("Namespace", None, TENANT_NAMESPACE, {"metadata": {"labels": {LABEL: "cluster-demo"}}})
    world.installation.refuse_strangers()


# Rights that only a bad day needs, and which one.
RARE = {
    "llama-cpp:dagster-daemon: delete jobs.batch llama-cpp/*": "a run that takes longer than it may",
    "llama-cpp:dagster-daemon: delete pods llama-cpp/*": "the same",
    "llama-cpp:dagster-daemon: get pods/log llama-cpp/*": "a run whose process died: its last words",
    "llama-cpp:dagster-daemon: list events llama-cpp/*": "a run whose pod does not start",
    "llama-cpp:dagster-daemon: list jobs.batch llama-cpp/*": "the same",
    "llama-cpp:dagster-daemon: list pods llama-cpp/*": "the same",
    "llama-cpp:dagster-webserver: delete jobs.batch llama-cpp/*": "Terminate in the UI",
    "llama-cpp:dagster-webserver: delete pods llama-cpp/*": "the same",
    "llama-cpp:dagster-webserver: list pods llama-cpp/*": "the same",
    "llama-cpp:llama-assets-lease: get pods/log llama-cpp/*": "an engine that crashes: its last words",
    "llama-cpp:llama-assets-lease: list leases.coordination.k8s.io llama-cpp/*": "a note that may be another card's",
    "llama-cpp:llama-assets-reaper: list leases.coordination.k8s.io llama-cpp/*": "the same",
    "llama-cpp:llama-assets-reaper: list pods llama-cpp/*": "a holder that died",
    "llama-cpp:llama-assets-reaper: patch deployments.apps immich/immich-machine-learning": "the same",
    "llama-cpp:llama-assets-reaper: patch deployments.apps llama-cpp/llama-swap": "the same",
    "llama-cpp:llama-assets-reaper: patch leases.coordination.k8s.io llama-cpp/llama-assets-gpu": "the same",
    "llama-cpp:llama-assets-run: delete jobs.batch llama-cpp/*": "a run that is interrupted takes its Job with it",
    "llama-cpp:llama-assets-run: list events llama-cpp/*": "a Job without a pod",
    "llama-cpp:llama-assets-run: list pods llama-cpp/*": "a watch that broke",
}


def test_no_account_misses_a_right_and_none_has_one_to_spare(world: World):
    """Everything above, by the API server's own log."""
    world.recording.close()
    objects = [found for found in yaml.safe_load_all(world.cluster.kubectl("kustomize", str(world.home))) if found]
    missing, spare = against_roles(world.recorded.calls, objects, RARE)
    refused = sorted(map(str, world.recorded.forbidden))
    assert sorted({*missing, *refused}) == [], "missing"
    assert spare == [], "spare"
