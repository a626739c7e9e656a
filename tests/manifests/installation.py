"""The manifests as a person applies them, under names of a test's own, so that installations stand side by side.

`rendered` is what kustomize makes of an overlay; `renamed` moves it to other namespaces; `Installed` is one on a
cluster, with tokens of its accounts. Used by the tests here and by the end to end tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from llama_assets.kube import Kube
from tests.cluster import Cluster
from tests.conftest import ROOT

MANIFESTS = ROOT / "manifests"
OURS, TENANTS = "llama-cpp", "immich"  # the namespaces that the manifests name
POLICIES = ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy")
CATALOG = {"LLAMA_ASSETS_CATALOG": "/etc/llama-assets/models.yaml"}
PASSWORD = "of-this-test"
Object = dict[str, Any]


def rendered(folder: Path) -> list[Object]:
    """What `kubectl apply -k FOLDER` would apply."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.fail(f"kubectl kustomize {folder}: {done.stderr}")
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def overlay(
    folder: Path, image: str, settings: Mapping[str, str], base: str = "overlays/default", tenants: str = TENANTS
) -> Path:
    """An overlay as docs/cluster.md tells a person to write it: the image in one place, settings and a catalog.

    The catalog is the packaged one with its tenant in namespace `tenants`, on a card that nobody counts.
    """
    name, _, tag = image.rpartition(":")
    said = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(MANIFESTS / base, folder)],
        "images": [{"name": "llama-assets", "newName": name, "newTag": tag}],
        "configMapGenerator": [
            {
                "name": "llama-assets-settings",
                "namespace": OURS,
                "behavior": "merge",
                "literals": [f"{key}={value}" for key, value in {**CATALOG, **settings}.items()],
            },
            {"name": "llama-assets-catalog", "namespace": OURS, "files": ["models.yaml", "prompt.txt", "schema.json"]},
        ],
        "generatorOptions": {"disableNameSuffixHash": True},
    }
    folder.mkdir(parents=True, exist_ok=True)
    catalog = (ROOT / "models.yaml").read_text().replace("questions/travel/", "")
    catalog = catalog.replace(f"- {TENANTS}/", f"- {tenants}/").replace("\ngpu:", "\ngpu:\n  resource: null")
    (folder / "models.yaml").write_text(catalog)
    for name in ("prompt.txt", "schema.json"):
        shutil.copy(ROOT / "llama_assets" / "questions" / "travel" / name, folder)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))
    return folder


def with_door(folder: Path) -> Path:
    """The overlay with the opt-in door for the Hub's webhook, as manifests/nudge tells a person to add it."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    said["components"] = [os.path.relpath(MANIFESTS / "nudge", folder)]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))
    return folder


def renamed(objects: Iterable[Object], ours: str, tenants: str) -> list[Object]:
    """The same objects in other namespaces; what belongs to none gets a name that ends with `ours`."""
    moved: list[Object] = []
    for found in objects:
        # As text, because accounts and settings name the namespace inside sentences too.
        copy: Object = json.loads(json.dumps(found).replace(OURS, ours))
        if copy["metadata"].get("namespace") == TENANTS:
            copy["metadata"]["namespace"] = tenants
        if copy["kind"] in (*POLICIES, "StorageClass"):
            copy["metadata"]["name"] += f"-{ours}"
        if copy["kind"] == "ValidatingAdmissionPolicyBinding":
            copy["spec"]["policyName"] += f"-{ours}"
        moved.append(copy)
    return moved


def volumes(name: str, ours: str, **said: str) -> list[Object]:
    """Classes, volumes and claims of an overlay for namespace `ours`, beside other tests' own.

    `said` replaces what the overlay leaves to whoever installs, a path or a node.
    """
    found = [
        thing
        for thing in rendered(MANIFESTS / "overlays" / name)
        if thing["kind"] in ("StorageClass", "PersistentVolume", "PersistentVolumeClaim")
    ]
    text = json.dumps(found).replace(f'"{OURS}"', f'"{ours}"')
    for thing in found:
        if thing["kind"] == "PersistentVolume":
            text = text.replace(thing["metadata"]["name"], f"{thing['metadata']['name']}-{ours}")
    for placeholder, value in said.items():
        assert placeholder in text, f"overlays/{name} does not say {placeholder}"
        text = text.replace(placeholder, value)
    moved: list[Object] = json.loads(text)
    return moved


@dataclass(frozen=True)
class Installed:
    """An installation of ours in `namespace`, with tenants in `tenants`."""

    cluster: Cluster
    objects: list[Object]
    namespace: str
    tenants: str
    folder: Path

    def apply(self) -> list[str]:
        """Apply everything once more; kubectl's lines."""
        return self.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(self.objects)).splitlines()

    def named(self, kind: str) -> list[str]:
        """Names of the objects of a kind."""
        return [found["metadata"]["name"] for found in self.objects if found["kind"] == kind]

    def kubeconfig(self, account: str) -> Path:
        """A kubeconfig of one of our accounts, made when first asked for."""
        path = self.folder / f"{account}.kubeconfig"
        if not path.exists():
            token = self.cluster.kubectl("create", "token", "-n", self.namespace, account, "--duration=2h").strip()
            said = yaml.safe_load(self.cluster.kubeconfig.read_text())
            said["users"] = [{**user, "user": {"token": token}} for user in said["users"]]
            path.write_text(yaml.safe_dump(said))
        return path

    def kube(self, account: str) -> Kube:
        """The cluster as this account sees it."""
        return Kube.open(self.kubeconfig(account))

    def remove(self) -> None:
        """Take everything away, without waiting for it."""
        for found in self.objects:
            if found["kind"] in POLICIES:
                self.cluster.kubectl("delete", found["kind"], found["metadata"]["name"], "--ignore-not-found")
        for name in (self.namespace, self.tenants):
            self.cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")
