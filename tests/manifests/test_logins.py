"""A pull secret for the engine's image lies where the settings say, for the sensor and for runs; there may be none."""

from __future__ import annotations

from pathlib import PurePosixPath

import yaml

from tests.manifests.installation import MANIFESTS, rendered

ITEMS = [{"key": ".dockerconfigjson", "path": "config.json"}]


def test_the_docker_config_of_the_settings_is_the_mounted_pull_secret() -> None:
    whole = {
        (found["kind"], found["metadata"]["name"]): found for found in rendered(MANIFESTS / "overlays" / "default")
    }
    said = whole["ConfigMap", "llama-assets-settings"]["data"]["LLAMA_ASSETS_REGISTRY_CONFIG"]
    named = PurePosixPath(said)
    pod = whole["Deployment", "llama-assets-code"]["spec"]["template"]["spec"]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "registry")
    (volume,) = (one for one in pod["volumes"] if one["name"] == "registry")
    assert (mount["mountPath"], named.name) == (str(named.parent), ITEMS[0]["path"])
    assert volume["secret"] == {"secretName": "llama-assets-registry", "optional": True, "items": ITEMS}
    instance = yaml.safe_load(whole["ConfigMap", "dagster-instance"]["data"]["dagster.yaml"])
    run = instance["run_launcher"]["config"]
    assert {"name": "registry", "mount_path": str(named.parent), "read_only": True} in run["volume_mounts"]
    (volume,) = (one for one in run["volumes"] if one["name"] == "registry")
    assert volume["secret"] == {"secret_name": "llama-assets-registry", "optional": True, "items": ITEMS}
