"""What is told of a pod that does not start, from what the API shows of it. Real ones are in test_job.py."""

from __future__ import annotations

import pytest

from llama_assets.launch.job_end import waiting

POD = {"metadata": {"name": "pod"}, "status": {"phase": "Pending"}}


def mount(volume: str, why: str) -> dict:
    return {"reason": "FailedMount", "message": f'MountVolume.SetUp failed for volume "{volume}" : {why}'}


@pytest.mark.parametrize(
    "why",
    [
        "failed to sync configmap cache: timed out waiting for the condition",
        "failed to sync secret cache: timed out waiting for the condition",
        "failed to fetch token: pod is forbidden: no relationship found between node 'n' and this object",
    ],
)
def test_a_kubelet_that_is_behind_and_looks_again_by_itself_is_no_volume_that_cannot_be_mounted(why):
    hiccup = mount("kube-api-access-fprvs", why)
    assert waiting({}, POD, "image:1", [hiccup]) is None
    found = waiting({}, POD, "image:1", [mount("models", "mount failed: exit status 32"), hiccup])
    assert found and "exit status 32" in found.sentence, "and what is a trouble is told beside it"
