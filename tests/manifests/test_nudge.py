"""The door for the Hub's webhook is opt-in, holds restricted Pod Security, and has no right on anything."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.manifests.installation import Object, overlay, rendered, with_door

IMAGE = "ghcr.io/me/llama-assets:v7"


def built(folder: Path, component: bool) -> list[Object]:
    made = overlay(folder, IMAGE, {})
    return rendered(with_door(made) if component else made)


def test_the_component_adds_the_door_and_changes_nothing_else(tmp_path: Path, golden) -> None:
    before, after = built(tmp_path / "without", False), built(tmp_path / "with", True)
    added = [found for found in after if found not in before]
    assert len(after) == len(before) + len(added), "what was there is as it was"
    golden("nudge.yaml", yaml.safe_dump_all(added, sort_keys=True, width=120))
    names = [(found["kind"], found["metadata"]["name"]) for found in added]
    assert sorted(names) == [(kind, "llama-assets-nudge") for kind in ("Deployment", "Service", "ServiceAccount")]


def test_it_holds_no_secret_no_right_and_no_token_and_does_not_start_without_a_secret(tmp_path: Path) -> None:
    whole = built(tmp_path / "with", True)
    subjects = [who["name"] for found in whole for who in found.get("subjects", ())]
    assert "llama-assets-nudge" not in subjects and not [found for found in whole if found["kind"] == "Secret"]
    (deployment,) = (
        found for found in whole if (found["kind"], found["metadata"]["name"]) == ("Deployment", "llama-assets-nudge")
    )
    pod = deployment["spec"]["template"]["spec"]
    (box,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False and box["image"] == IMAGE
    (secret,) = (one["valueFrom"]["secretKeyRef"] for one in box["env"] if one["name"] == "LLAMA_ASSETS_WEBHOOK_SECRET")
    assert secret == {"name": "llama-assets", "key": "webhook-secret"}, "not optional"
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {
        "type": "RuntimeDefault"
    }
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    services = {found["metadata"]["name"]: found for found in whole if found["kind"] == "Service"}
    asked = box["command"][box["command"].index("--webserver") + 1]
    assert asked == f"http://dagster-webserver:{services['dagster-webserver']['spec']['ports'][0]['port']}"
    opened = services["llama-assets-nudge"]["spec"]
    assert opened["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert opened["ports"][0]["port"] == box["ports"][0]["containerPort"] == int(box["command"][4])
