"""Which cluster it is, and what is said of pods that are not well: read off what Kubernetes answers."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from llama_assets import catalog as catalogs
from llama_assets.demo import cluster_site
from llama_assets.demo.cluster import catalog_without_card
from llama_assets.demo.cluster_install import trouble, worded
from llama_assets.demo.cluster_site import NoSite, NoWayIn, Site, cards_of, find_site, kind_of, loading, removing
from llama_assets.demo.cluster_world import image_names
from llama_assets.demo.showing import verdict_in
from tests.conftest import ROOT


def node(provider: str = "", labels: dict[str, str] | None = None, version: str = "v1.34.4", cards: str = "0") -> dict:
    return {
        "metadata": {"labels": labels or {}},
        "spec": {"providerID": provider},
        "status": {"nodeInfo": {"kubeletVersion": version}, "allocatable": {"nvidia.com/gpu": cards}},
    }


@pytest.mark.parametrize(
    ("context", "nodes", "kind"),
    [
        ("kind-home", [node("kind://docker/home/home-control-plane")], "kind"),
        ("renamed", [node("kind://docker/home/home-control-plane")], "kind"),
        ("minikube", [node(labels={"minikube.k8s.io/name": "minikube"})], "minikube"),
        ("k3d-home", [node("k3s://k3d-home-server-0", version="v1.34.4+k3s1")], "k3d"),
        ("gke_company_europe", [node("gce://company/europe-west1")], "unknown"),
        ("default", [node(version="v1.34.4+k3s1"), node(version="v1.34.4+k3s1")], "unknown"),
    ],
)
def test_a_cluster_is_told_by_its_nodes_and_its_context(context, nodes, kind):
    assert kind_of(context, nodes) == kind


def test_k3s_takes_images_only_on_its_own_machine(monkeypatch):
    nodes = [node(version="v1.34.4+k3s1")]
    monkeypatch.setattr(cluster_site.shutil, "which", lambda name: None)
    assert kind_of("default", nodes) == "unknown"
    monkeypatch.setattr(cluster_site.shutil, "which", lambda name: f"/usr/local/bin/{name}")
    assert kind_of("default", nodes) == "k3s"


def test_the_cards_of_all_nodes_are_counted():
    assert cards_of([node(cards="1"), node(cards="2"), {"status": {}}]) == 3


def test_an_image_reaches_each_kind_of_cluster_by_its_own_command():
    assert loading("kind", "kind-home", "x:1") == ["kind load docker-image x:1 --name home"]
    assert loading("k3d", "k3d-home", "x:1") == ["k3d image import x:1 --cluster home"]
    assert loading("minikube", "second", "x:1") == ["minikube image load x:1 --profile second"]
    assert loading("k3s", "default", "x:1") == ["docker save x:1 | k3s ctr images import -"]
    assert loading("registry", "gke", "r.example/x:1") == ["docker push r.example/x:1"]


def test_a_cluster_that_only_a_registry_reaches_is_an_error_with_the_command_to_say(tmp_path):
    site = Site("unknown", "gke_company", None, 1)
    with pytest.raises(NoWayIn, match=r"make cluster-demo IMAGE=registry\.example\.org/llama-assets:demo"):
        site.build("x:1", tmp_path)


def test_what_is_removed_are_images_of_that_very_name(tmp_path):
    """The command itself, with a `ctr` that only lists."""
    names = ["docker.io/library/llama-assets-demo:1", "docker.io/library/llama-assets-demo@sha256:aa",
             "docker.io/library/llama-assets:latest", "docker.io/library/llama-assets-demo-world:1"]  # fmt: skip
    program = tmp_path / "ctr"
    program.write_text("#!/bin/sh\ncase \"$*\" in *list*) printf '%s\\n' " + " ".join(names) + ";; esac\n")
    program.chmod(0o755)
    command = removing("kit", "test-cluster", "llama-assets-demo")
    done = subprocess.run(
        ["sh", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.stdout.split() == names[:2]


def test_no_cluster_at_all_is_one_sentence(tmp_path):
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "KUBECONFIG": str(tmp_path / "absent")}
    with pytest.raises(NoSite):
        find_site(None, False, environment, print)


def test_names_of_images_change_with_what_goes_in_and_only_then(tmp_path):
    first = image_names(ROOT, None)
    assert first == image_names(ROOT, None)
    copied = tmp_path / "checkout"
    for name in ("Dockerfile", "pyproject.toml", "constraints.txt", "README.md"):
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("llama_assets", "manifests"):
        subprocess.run(["cp", "-r", ROOT / folder, copied / folder], check=True)
    assert image_names(copied, None) == first
    (copied / "llama_assets/models.yaml").write_text("changed")
    changed = image_names(copied, None)
    assert changed.ours != first.ours and changed.world != first.world
    assert image_names(ROOT, "r.example:5000/a/llama:1").world == "r.example:5000/a/llama-world:1"
    with pytest.raises(NoWayIn, match="is no checkout of llama-assets"):
        image_names(tmp_path, None)


def test_a_cluster_without_cards_gets_the_catalog_with_that_one_change(tmp_path):
    made = catalogs.load(catalog_without_card(tmp_path / "catalog") / "models.yaml")
    packaged = catalogs.load()
    assert made.gpu.resource is None
    assert made.model_copy(update={"gpu": packaged.gpu}).hash == packaged.hash


def test_why_a_pod_is_not_well_is_kubernetes_own_words():
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    starting = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    ended = {"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    assert trouble({"status": {"conditions": [unscheduled]}}) == "Unschedulable: 0/1 nodes"
    assert trouble({"status": {"containerStatuses": [waiting]}}) == "ErrImagePull: not found"
    assert trouble({"status": {"containerStatuses": [ended]}}) == "OOMKilled, exit status 137"
    assert trouble({"status": {"containerStatuses": [starting]}}) is None
    assert trouble({"status": {"containerStatuses": [{"state": {"running": {}}}]}}) is None


def test_the_verdict_is_taken_from_the_log_as_the_run_printed_it():
    log = [
        "2026-11-22 19:00:00 +0000 - dagster - INFO - __ASSET_JOB - ab - vision_benchmark - \n",
        "VERDICT  session s1\n", "\n", "  a  better\n",
        "2026-11-22 19:00:01 +0000 - dagster - DEBUG - __ASSET_JOB - ab - 1 - vision_benchmark - STEP_OUTPUT\n",
    ]  # fmt: skip
    assert list(verdict_in(log)) == ["VERDICT  session s1", "", "  a  better"]
    assert list(verdict_in(log[:1])) == []


def test_every_object_of_the_demo_bears_its_label_and_nothing_else_is_made(tmp_path):
    import shutil

    if not shutil.which("kubectl"):
        pytest.skip("there is no kubectl to render kustomizations with")
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "manifests/overlays/demo")], capture_output=True, text=True, check=True
    )
    objects = list(yaml.safe_load_all(done.stdout))
    assert {one["metadata"]["labels"].get("llama-assets.io/demo") for one in objects} == {"cluster-demo"}
    homes = {one["metadata"].get("namespace", one["kind"]) for one in objects}
    assert homes == {
        "llama-cpp", "immich", "Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip


def test_a_tasks_messages_are_shown_as_what_they_say():
    head = '{"__dagster_pipes_version": "0.1", "method": '
    assert worded(head + '"log", "params": {"message": "turn 1", "level": "INFO"}}') == "turn 1"
    assert worded(head + '"report_custom_message", "params": {"payload": {"failed": "no card"}}}') == "no card"
    assert worded(head + '"closed", "params": {}}') == ""
    assert worded('{"level": "warn"}') == '{"level": "warn"}'
    assert worded("Traceback (most recent call last):") == "Traceback (most recent call last):"
    assert worded("17") == "17"
